"""Training: batches in a reproducible order, the trainer, averaged weights, checkpoints, metrics."""
