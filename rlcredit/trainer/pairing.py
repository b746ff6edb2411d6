"""Which estimators, losses, policies and rates go together, checked before anything is loaded."""

from collections.abc import Sequence

from rlcredit.estimators.base import AdvantageEstimator, Grain
from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import PolicySource
from rlcredit.trainer.settings import TrainerSettings


def check_pairing(
    estimator: AdvantageEstimator,
    loss: PolicyLoss,
    *,
    group_size: int,
    num_candidates: int,
    scores_parts: bool = True,
) -> None:
    """Refuse what cannot work, with the remedy.

    Args:
        estimator: Makes the advantages.
        loss: Reads them.
        group_size: Rollouts per prompt.
        num_candidates: That the task asks for; 0: responses are one text.
        scores_parts: Whether the reward means something for parts of a response.

    Raises:
        ValueError: If the estimator's credit is finer than the loss can use, the group is too
            small for it, or it credits candidates where there are none, segments of sets, or parts
            of verified answers.
    """
    if estimator.grain != Grain.rollout and not loss.takes_tokens:
        raise ValueError(
            f"{type(estimator).__name__} credits each {estimator.grain.value}, and "
            f"{type(loss).__name__} weighs whole rollouts; use loss=dapo, or a rollout-level "
            "estimator (grpo, dr_grpo, maxrl, rloo)"
        )
    smallest = estimator.smallest_group
    if group_size < smallest:
        raise ValueError(
            f"trainer.group_size={group_size}, and {type(estimator).__name__} compares {smallest} "
            f"or more rollouts of a prompt; set trainer.group_size >= {smallest}"
        )
    needs = estimator.needs | loss.needs
    if (needs.candidates or needs.coalitions is not None) and not scores_parts:
        raise ValueError(
            f"{type(estimator).__name__} asks for the reward of parts of a response, and this "
            "reward verifies whole answers: what is left of an expression or a proof without one "
            "of its parts is another answer, or none. Use an estimator of whole responses (grpo, "
            "setpo, rloo, maxrl, lpo), or a task of search (dataset=esci)"
        )
    if needs.candidates and not num_candidates:
        raise ValueError(
            f"{type(estimator).__name__} credits the candidates of a response, and this task's "
            "responses are one text each; set dataset.candidates=4 (or another number), or use "
            "estimator=ospo or loo, which credit segments"
        )
    if (needs.coalitions is not None or needs.continuations) and num_candidates:
        raise ValueError(
            f"{type(estimator).__name__} credits the segments of one text, and with "
            f"dataset.candidates={num_candidates} a response is a set of texts; use estimator="
            "shape, shape_loo or winner_takes_all, a rollout-level one, or dataset.candidates=0"
        )


def check_rate(policy: PolicySource, settings: TrainerSettings, *, typed: bool) -> str | None:
    """Refuse, or warn of, a learning rate that would destroy pretrained weights.

    Args:
        policy: Knows the highest rate.
        settings: Have the rate.
        typed: Whether the command gives the rate itself. What a person asks for is done.

    Returns:
        The warning, where the rate is too high and typed.

    Raises:
        ValueError: If the rate is too high and comes from a file.
    """
    lr, highest = settings.optimizer.lr, policy.highest_lr
    if highest is None or lr <= highest or not settings.steps:
        return None
    said = (
        f"trainer.optimizer.lr={lr:g} is a rate for a policy made from scratch; pretrained weights "
        f"are sooner destroyed than trained above {highest:g}"
    )
    if typed:
        return f"warning: {said}"
    raise ValueError(
        f"{said}. It comes from an experiment, a size or a data set behind the policy's own "
        f"settings: give trainer.optimizer.lr={highest / 10:g} on the command line, or leave the "
        "experiment out"
    )


def types_rate(words: Sequence[str]) -> bool:
    """Whether the words of a command give the learning rate themselves."""
    return any(word.lstrip("+").startswith("trainer.optimizer.lr=") for word in words)
