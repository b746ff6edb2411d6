"""Advantage estimators: signals in, credit per token out; and the parts some are made of."""

from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.estimators.constructions import Additive, Proportional, Rank, Weighted
from rlcredit.estimators.grpo import GRPO
from rlcredit.estimators.max_k import MaxK
from rlcredit.estimators.ospo import OSPO
from rlcredit.estimators.otb import OTB
from rlcredit.estimators.prefix import Prefix
from rlcredit.estimators.rloo import RLOO
from rlcredit.estimators.scar import SCAR
from rlcredit.estimators.setpo import SetPO
from rlcredit.estimators.shap_e import ShapE
from rlcredit.estimators.shares import LeaveOneOutShare, ShapleyShare, WinnerShare
from rlcredit.estimators.utilities import AnySuccess, Coverage, Max, Sum, Top
from rlcredit.estimators.values import (
    LeaveOneOut,
    Myerson,
    Owen,
    Random,
    Released,
    SelfNormalised,
    Shapley,
    Shuffled,
)
from rlcredit.estimators.vine import Vine

__all__ = [
    "GRPO",
    "OSPO",
    "OTB",
    "RLOO",
    "SCAR",
    "Additive",
    "AdvantageEstimator",
    "AnySuccess",
    "Coverage",
    "LeaveOneOut",
    "LeaveOneOutShare",
    "Max",
    "MaxK",
    "Myerson",
    "Owen",
    "Prefix",
    "Proportional",
    "Random",
    "Rank",
    "Released",
    "SelfNormalised",
    "SetPO",
    "ShapE",
    "Shapley",
    "ShapleyShare",
    "Shuffled",
    "Sum",
    "Top",
    "Vine",
    "Weighted",
    "WinnerShare",
]
