"""Training: a run's state, fine-tuning, running means, signals."""
