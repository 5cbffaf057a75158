"""Packed data sets to clips, augmented views, modalities and tokens, batched, on any device."""
