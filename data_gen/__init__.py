"""Convert recordings from any source to packed data sets. Nothing in this package imports torch."""
