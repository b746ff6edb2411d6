"""Estimators by the names that the command line has for them (``estimator=...``)."""

from collections.abc import Callable, Mapping

from rlcredit.credit.group import Scale
from rlcredit.errors import nearest
from rlcredit.estimators import (
    GRPO,
    OSPO,
    RLOO,
    SCAR,
    Additive,
    AdvantageEstimator,
    LeaveOneOut,
    LeaveOneOutShare,
    Max,
    MaxK,
    Myerson,
    Owen,
    Prefix,
    Proportional,
    Random,
    Rank,
    Released,
    SetPO,
    ShapE,
    ShapleyShare,
    Weighted,
    WinnerShare,
)
from rlcredit.estimators.base import SetUtility

ESTIMATORS: Mapping[str, Callable[[], AdvantageEstimator]] = {
    "dr_grpo": lambda: GRPO(scale=Scale.none),
    "grpo": GRPO,
    "loo": lambda: OSPO(value=LeaveOneOut(), construction=Additive()),
    "maxk": MaxK,
    "maxrl": lambda: GRPO(scale=Scale.mean, eps=1e-6),
    "ospo": lambda: OSPO(value=Myerson(), construction=Weighted()),
    "ospo_owen": lambda: OSPO(value=Owen(), construction=Weighted()),
    "ospo_rank": lambda: OSPO(value=Myerson(), construction=Rank()),
    "ospo_released": lambda: OSPO(value=Released(), construction=Proportional(), clip=2.0),
    "prefix": Prefix,
    "random_credit": lambda: OSPO(value=Random(), construction=Additive()),
    "rloo": RLOO,
    "scar": lambda: SCAR(value=Owen()),
    "setpo": lambda: SetPO(base=GRPO()),
}
CANDIDATES: Mapping[str, Callable[[SetUtility], AdvantageEstimator]] = {
    "shape": lambda utility: ShapE(share=ShapleyShare(), utility=utility),
    "shape_loo": lambda utility: ShapE(share=LeaveOneOutShare(), utility=utility),
    "winner_takes_all": lambda utility: ShapE(share=WinnerShare(), utility=utility),
}
"""Estimators of candidates share out what a set earns."""

_LISTWISE = ("lpo", "lpo_reverse")
_OF_POLICY = ("otb", "otb_released", "vine")


def estimator_named(name: str, *, utility: SetUtility | None = None) -> AdvantageEstimator:
    """The estimator that ``estimator=<name>`` means on the command line.

    >>> estimator_named("loo").grain.value
    'segment'

    Args:
        name: ``grpo``, ``ospo``, ``loo``, ``shape``, ... (:data:`ESTIMATORS`, :data:`CANDIDATES`).
        utility: What a set of candidates earns; None: its best candidate's reward.

    Raises:
        ValueError: If no estimator has this name, the name means a loss, or the estimator needs the
            policy itself.
    """
    if name in ESTIMATORS:
        return ESTIMATORS[name]()
    if name in CANDIDATES:
        return CANDIDATES[name](Max() if utility is None else utility)
    if name in _LISTWISE:
        raise ValueError(
            f"{name} is GRPO's advantages with a loss of its own; take rlcredit.LPO in a trainer "
            "that lets you choose the loss, or rlcredit.lpo_advantages under a plain policy loss"
        )
    if name in _OF_POLICY:
        raise ValueError(
            f"{name} asks the policy for more than its responses, and here no policy is at hand; "
            f"take it in a run (rlcredit train estimator={name}), or hand Signals that hold it to "
            "the estimator's class in rlcredit.estimators"
        )
    known = [*ESTIMATORS, *CANDIDATES]
    raise ValueError(
        f"there is no estimator {name!r}; there are {', '.join(known)}{nearest(name, known)}"
    )
