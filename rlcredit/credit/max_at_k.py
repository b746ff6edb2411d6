"""Advantages for the best of k rollouts: what a rollout adds to the maximum of k of its group."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.group import checked_rewards, equal_rewards


def max_at_k(rewards: Float[Tensor, "P G"], *, k: int) -> Float[Tensor, "P G"]:
    """Leave-one-out gradient weights of E[the largest of k independent rewards].

    A_i = k (mean over k-sets with i of their max  -  mean over k-sets without i of theirs)

    PKPO, arXiv:2505.15201, has the first mean, and MaxPO, arXiv:2606.06080, a baseline that centres
    the group and keeps the weights unbiased; this form is derived here. Every k-set without i is
    independent of rollout i, so the second mean is a baseline. With the m = G - 1 others ascending,
    o_0 <= ... <= o_{m-1}, the largest of k - 1 of them is o_j in C(j, k-2) of C(m, k-1) sets:

        with    = sum_{j >= k-2} max(r_i, o_j) C(j, k-2) / C(m, k-1)      (k = 1: r_i)
        without = sum_{j >= k-1} o_j C(j, k-1) / C(m, k)

    E[mean over i of A_i grad log pi(y_i)] = grad E[max of k]: the factor k makes a loss that takes
    means over rollouts unbiased. k = 1 is RLOO. A group of equal rewards gets exactly 0. Computed
    in at least float32.

    Args:
        rewards: One reward per rollout, in reward units; any real numbers.
        k: Rollouts whose best counts, at least 1.

    Returns:
        Advantage of each rollout, in reward units; sums to zero over the group.

    Raises:
        ValueError: If k is below 1, the group holds fewer than k + 1 rollouts, or a reward is not
            finite.
    """
    if k < 1:
        raise ValueError(f"k is {k}; the best of k rollouts needs k >= 1")
    equal = equal_rewards(rewards).unsqueeze(1)
    rewards = checked_rewards(rewards, f"max@{k}")
    group_size = rewards.shape[1]
    if group_size < k + 1:
        raise ValueError(
            f"max@{k} needs {k + 1} or more rollouts per prompt, not {group_size}; set "
            f"trainer.group_size >= {k + 1}, or a smaller estimator.k"
        )
    ascending, order = rewards.sort(dim=1)
    place = order.argsort(dim=1).unsqueeze(-1)
    index = torch.arange(group_size - 1, device=rewards.device)
    others = ascending.unsqueeze(1).expand(-1, group_size, -1)
    others = others.gather(-1, index + (index >= place).long())  # row i without its own reward
    included = rewards
    if k > 1:
        chances = _largest(group_size - 1, k - 1, rewards)
        included = (torch.maximum(rewards.unsqueeze(-1), others) * chances).sum(dim=-1)
    left_out = (others * _largest(group_size - 1, k, rewards)).sum(dim=-1)
    return torch.where(equal, 0, k * (included - left_out))


def _largest(count: int, size: int, like: Tensor) -> Float[Tensor, " count"]:
    """The chance that the largest of ``size`` of ``count`` ranked rollouts has each rank."""
    sets = math.comb(count, size)
    chances = [math.comb(rank, size - 1) / sets for rank in range(count)]
    return torch.tensor(chances, dtype=like.dtype, device=like.device)
