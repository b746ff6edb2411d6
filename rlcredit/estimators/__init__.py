"""Advantage estimators: signals in, credit per token out; with the parts OSPO is made of."""

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.estimators.constructions import Additive, Weighted
from rlcredit.estimators.grpo import GRPO
from rlcredit.estimators.ospo import OSPO
from rlcredit.estimators.values import LeaveOneOut, Myerson, Random, SelfNormalised

__all__ = [
    "GRPO",
    "OSPO",
    "Additive",
    "AdvantageEstimator",
    "LeaveOneOut",
    "Myerson",
    "Random",
    "SelfNormalised",
    "Weighted",
]
