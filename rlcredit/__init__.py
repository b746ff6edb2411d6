"""rlcredit: which tokens of a generated text earned its reward?

What a trainer of one's own needs: an advantage estimator turns :class:`Signals` into
:class:`Advantages`, and a policy loss turns log-probs into a scalar to minimise. What estimators
are made of (values, constructions, shares) is in :mod:`rlcredit.estimators`. Importing this package
imports torch, and no trainer.
"""

from rlcredit.estimators import GRPO, OSPO, RLOO, AdvantageEstimator, Prefix, SetPO, ShapE
from rlcredit.losses import LPO, ClippedSurrogate, PolicyLoss
from rlcredit.run.load import SavedRun, load_run
from rlcredit.scoring.credit import Credit, Credited
from rlcredit.types import (
    Advantages,
    CandidateRewards,
    CoalitionGame,
    Loss,
    Needs,
    Segments,
    Signals,
    UpdateBatch,
)

__version__ = "0.1.0"

__all__ = [
    "GRPO",
    "LPO",
    "OSPO",
    "RLOO",
    "AdvantageEstimator",
    "Advantages",
    "CandidateRewards",
    "ClippedSurrogate",
    "CoalitionGame",
    "Credit",
    "Credited",
    "Loss",
    "Needs",
    "PolicyLoss",
    "Prefix",
    "SavedRun",
    "Segments",
    "SetPO",
    "ShapE",
    "Signals",
    "UpdateBatch",
    "load_run",
]
