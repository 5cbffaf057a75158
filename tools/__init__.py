"""What the programs share: options, processes, checkpoints, features, logs, evaluation."""
