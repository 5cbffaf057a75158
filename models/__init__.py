"""Tokens to features to projections, and the objective on them."""
