"""Evaluate an encoder: features, linear probe, nearest neighbours, fine-tuning."""
