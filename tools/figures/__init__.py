"""`python -m tools.figures`: pictures of a run, of its features and of its recordings."""
