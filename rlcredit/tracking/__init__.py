"""Trackers: ``metrics.jsonl`` is the record and always kept; others mirror it."""

from rlcredit.tracking.jsonl import JSONL
from rlcredit.tracking.tensorboard import TensorBoard
from rlcredit.tracking.trackio import Trackio
from rlcredit.tracking.wandb import WandB

__all__ = ["JSONL", "TensorBoard", "Trackio", "WandB"]
