"""Long recordings: scores of frames, segments decoded from them, detection trained and measured."""
