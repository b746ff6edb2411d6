"""Which estimators and losses go together, checked before anything is loaded."""

from rlcredit.credit.diversity import SMALLEST_GROUP
from rlcredit.estimators.base import AdvantageEstimator, Grain
from rlcredit.losses.base import PolicyLoss


def check_pairing(estimator: AdvantageEstimator, loss: PolicyLoss, *, group_size: int) -> None:
    """Refuse what cannot work, with the remedy.

    Args:
        estimator: Makes the advantages.
        loss: Reads them.
        group_size: Rollouts per prompt.

    Raises:
        ValueError: If the estimator's credit is finer than the loss can use, or the group is too
            small for it.
    """
    if estimator.grain != Grain.rollout and not loss.takes_tokens:
        raise ValueError(
            f"{type(estimator).__name__} credits each {estimator.grain.value}, and "
            f"{type(loss).__name__} weighs whole rollouts; use loss=dapo, or a rollout-level "
            "estimator (grpo, dr_grpo, maxrl, rloo)"
        )
    smallest = SMALLEST_GROUP if estimator.needs.embeddings else 2
    if group_size < smallest:
        raise ValueError(
            f"trainer.group_size={group_size}, and {type(estimator).__name__} compares {smallest} "
            f"or more rollouts of a prompt; set trainer.group_size >= {smallest}"
        )
    if (estimator.needs | loss.needs).candidates:
        raise ValueError(
            f"{type(estimator).__name__} credits the candidates of a response, and no data set "
            "here has responses of several candidates; estimator=ospo and loo credit segments"
        )
