"""Policy losses: current log-probs in, a scalar to minimise out."""

from rlcredit.losses.base import PolicyLoss
from rlcredit.losses.lpo import LPO, lpo_advantages
from rlcredit.losses.surrogate import ClippedSurrogate

__all__ = ["LPO", "ClippedSurrogate", "PolicyLoss", "lpo_advantages"]
