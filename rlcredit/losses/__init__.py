"""Policy losses: current log-probs in, a scalar to minimise out."""

from rlcredit.losses.base import PolicyLoss
from rlcredit.losses.lpo import LPO, lpo_advantages
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.losses.token_weighted import TokenWeighted

__all__ = ["LPO", "ClippedSurrogate", "PolicyLoss", "TokenWeighted", "lpo_advantages"]
