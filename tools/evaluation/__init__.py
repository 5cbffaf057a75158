"""Evaluation of a frozen encoder: features, linear probe, nearest neighbours, metrics."""
