"""The training loop, its gradient, its checkpoints, and the evaluations around it."""

from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings

__all__ = ["AdamW", "TrainerSettings"]
