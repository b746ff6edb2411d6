"""rlcredit: which tokens of a generated text earned its reward?

What a trainer of one's own needs: :class:`Credit` turns prompts, responses and a reward into an
advantage per token. Below it an advantage estimator turns :class:`Signals` into
:class:`Advantages`, and a policy loss turns log-probs into a scalar to minimise. What estimators
are made of (values, constructions, shares) is in :mod:`rlcredit.estimators`. :func:`train` and
:func:`load_run` make and read runs. Importing this package imports torch, and no trainer.
"""

from rlcredit.commands.from_python import train
from rlcredit.estimators import (
    GRPO,
    OSPO,
    OTB,
    RLOO,
    SCAR,
    AdvantageEstimator,
    MaxK,
    Prefix,
    SetPO,
    ShapE,
    Vine,
)
from rlcredit.losses import LPO, ClippedSurrogate, PolicyLoss, TokenWeighted, lpo_advantages
from rlcredit.rewards.function import FunctionReward
from rlcredit.run.load import SavedRun, load_run
from rlcredit.scoring.credit import Credit, Credited, score
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
    "OTB",
    "RLOO",
    "SCAR",
    "AdvantageEstimator",
    "Advantages",
    "CandidateRewards",
    "ClippedSurrogate",
    "CoalitionGame",
    "Credit",
    "Credited",
    "FunctionReward",
    "Loss",
    "MaxK",
    "Needs",
    "PolicyLoss",
    "Prefix",
    "SavedRun",
    "Segments",
    "SetPO",
    "ShapE",
    "Signals",
    "TokenWeighted",
    "UpdateBatch",
    "Vine",
    "load_run",
    "lpo_advantages",
    "score",
    "train",
]
