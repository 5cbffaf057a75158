"""Convert raw recordings to packed data sets. Nothing in this package imports torch."""
