"""`python -m tools.benchmark`: how fast every stage is, beside the machine's own limits."""
