"""Long recordings: score frames, decode segments, train and measure detectors."""
