"""Evaluate an encoder: features, linear probe, nearest neighbours, fine-tuning, and their reports."""
