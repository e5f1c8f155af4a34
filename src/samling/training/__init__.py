"""The training loop, its checkpoints, logs and randomness. Knows no model and no data."""
