"""`python -m tools.figures`: plots of a run, of its features and of its recordings."""
