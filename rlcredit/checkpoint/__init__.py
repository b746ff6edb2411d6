"""Checkpoints: their folders, how tensors are written and read, and the state of training."""
