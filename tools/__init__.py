"""Share code between the programs: options, processes, checkpoints, features, logs, evaluation."""
