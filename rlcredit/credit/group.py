"""Advantages of rollouts against the other rollouts of the same prompt.

Knows rewards alone: no text, no tokens.
"""

from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import full_precision
from rlcredit.credit.rounding import all_equal


class Scale(StrEnum):
    """What a group-relative advantage is divided by."""

    std = auto()
    none = auto()
    mean = auto()


def equal_rewards(rewards: Float[Tensor, "P G"]) -> Bool[Tensor, " P"]:
    """True for groups whose rewards are all the same, but for rounding (standard)."""
    return all_equal(rewards)


def group_relative(
    rewards: Float[Tensor, "P G"], *, scale: Scale = Scale.std, eps: float = 1e-4
) -> Float[Tensor, "P G"]:
    """Rewards relative to their group's mean.

    A_i = (r_i - mean(r)) / (std(r) + eps)      GRPO, arXiv:2402.03300, section 4.1

    ``scale=none`` leaves out the denominator (Dr. GRPO, arXiv:2503.20783), ``scale=mean`` divides
    by mean(r) + eps (MaxRL, as matched by arXiv:2605.06139, Table 1). The standard deviation is
    the unbiased one, and eps = 1e-4, as in TRL. A group of equal rewards gets exactly 0. Computed
    in at least float32.

    Args:
        rewards: One reward per rollout, in reward units.
        scale: What to divide by.
        eps: Added to the denominator, in reward units.

    Returns:
        Advantage of each rollout; sums to zero over the group.

    Raises:
        ValueError: If G is 1, if a reward is not finite, or if ``scale=mean`` meets unequal rewards
            whose mean is not positive.
    """
    equal = equal_rewards(rewards).unsqueeze(1)
    rewards = checked_rewards(rewards, "a group-relative advantage")
    mean = rewards.mean(dim=1, keepdim=True)
    centred = rewards - mean
    match scale:
        case Scale.none:
            denominator = torch.ones_like(mean)
        case Scale.std:
            denominator = rewards.std(dim=1, keepdim=True) + eps
        case Scale.mean:
            _check_positive(mean[~equal])
            denominator = mean + eps
    return torch.where(equal, 0, centred / torch.where(equal, 1, denominator))


def leave_one_out(rewards: Float[Tensor, "P G"]) -> Float[Tensor, "P G"]:
    """Rewards less the mean of their siblings' rewards.

    A_i = r_i - sum_{j != i} r_j / (G - 1)      RLOO, arXiv:2402.14740, section 3

    The same as G / (G - 1) times Dr. GRPO's advantage. A group of equal rewards gets exactly 0.
    Computed in at least float32.

    Args:
        rewards: One reward per rollout, in reward units.

    Returns:
        Advantage of each rollout, in reward units; sums to zero over the group.

    Raises:
        ValueError: If G is 1, or if a reward is not finite.
    """
    equal = equal_rewards(rewards).unsqueeze(1)
    rewards = checked_rewards(rewards, "a leave-one-out baseline")
    group_size = rewards.shape[1]
    advantages = (rewards - rewards.mean(dim=1, keepdim=True)) * (group_size / (group_size - 1))
    return torch.where(equal, 0, advantages)


def over_std(
    advantages: Float[Tensor, "P G *rest"], rewards: Float[Tensor, "P G"], *, eps: float
) -> Float[Tensor, "P G *rest"]:
    """Advantages in standard deviations of their group's rewards (standard).

    Divided by std(r) + eps, the unbiased std; a group of equal rewards is left as it is.

    Args:
        advantages: Of rollouts, or of parts of them, in reward units.
        rewards: One reward per rollout.
        eps: Added to the denominator, in reward units.

    Returns:
        The advantages, without a unit.
    """
    std = full_precision(rewards).std(dim=1) + eps
    divisor = torch.where(equal_rewards(rewards), 1, std)
    return advantages / divisor.view(-1, *[1] * (advantages.dim() - 1))


def checked_rewards(rewards: Float[Tensor, "P G"], purpose: str) -> Float[Tensor, "P G"]:
    """The rewards in at least float32, or the reason why they are no group's rewards (standard).

    Args:
        rewards: One reward per rollout, in reward units.
        purpose: What they are for, to begin the complaint with.

    Returns:
        The rewards.

    Raises:
        ValueError: If G is 1, or if a reward is not finite.
    """
    if rewards.shape[1] < 2:
        raise ValueError(
            f"{purpose} needs 2 or more rollouts per prompt, not {rewards.shape[1]}; "
            "set trainer.group_size >= 2"
        )
    if not bool(torch.isfinite(rewards).all()):
        bad = rewards[~torch.isfinite(rewards)][0].item()
        raise ValueError(
            f"a reward is {bad}; rewards must be finite: check the reward's own output"
        )
    return full_precision(rewards)


def _check_positive(means: Tensor) -> None:
    """MaxRL divides by the group's mean reward, which must be positive."""
    if bool((means <= 0).any()):
        raise ValueError(
            f"scale=mean divides by a group's mean reward, and one is {means.min().item():.3g}; it "
            "must be positive where rewards differ: use rewards >= 0, or scale=std"
        )
