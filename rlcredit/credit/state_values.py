"""Advantages of segments from the values of the text so far."""

from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.credit.group import checked_rewards


class Target(StrEnum):
    """What a segment is judged to have led to."""

    step = auto()
    """The value of the text with it: what is left over is its own doing."""
    reward = auto()
    """The response's own reward: everything after it counts too."""


def judged_starts(
    place: Int[Tensor, "*batch T"], response_mask: Bool[Tensor, "*batch T"], num_places: int
) -> Int[Tensor, "*batch S"]:
    """The first token judged by each place (standard); T where none is.

    Args:
        place: From :func:`rlcredit.credit.prefix.judged_segment`.
        response_mask: True on response tokens.
        num_places: S, one more than there are segments.
    """
    num_tokens = place.shape[-1]
    index = torch.arange(num_tokens, device=place.device).expand_as(place)
    index = torch.where(response_mask, index, num_tokens)
    starts = torch.full(
        (*place.shape[:-1], num_places), num_tokens, dtype=torch.long, device=place.device
    )
    return starts.scatter_reduce(-1, place, index, reduce="amin")


def state_advantages(
    rewards: Float[Tensor, "P G"],
    state_values: Float[Tensor, "P G S"],
    present: Bool[Tensor, "P G S"],
    *,
    target: Target,
) -> Float[Tensor, "P G S"]:
    """What each segment changed in the expected reward, or what came after its beginning.

    A_k = V_{k+1} - V_k   (step)        A_k = R - V_k   (reward)

    SPO, arXiv:2505.23564, and VinePPO, arXiv:2410.01679, without a discount; V_k is the mean reward
    of continuations of the text before segment k, V_{k+1} = R behind the last one. Before the first
    segment it is the siblings' mean reward: they are continuations of the prompt. Each V_k is
    independent of what is judged by it, so the policy gradient keeps its expectation; step has
    E[V_{k+1} | the text with the segment] = the value of that text, and less noise.

    Args:
        rewards: One reward per rollout, in reward units.
        state_values: V_k; cells that are not present, and the first column, are not read.
        present: True for the segments by which tokens of the response are judged.
        target: What the value is subtracted from.

    Returns:
        Advantage of each segment in reward units, in at least float32; 0 where not present.

    Raises:
        ValueError: If G is 1, or a reward is not finite.
    """
    rewards = checked_rewards(rewards, "a value of the prompt").unsqueeze(-1)
    group_size = rewards.shape[1]
    siblings = (rewards.sum(dim=1, keepdim=True) - rewards) / (group_size - 1)
    known = torch.cat([siblings, state_values[..., 1:].to(rewards)], dim=-1)
    known = torch.where(present, known, 0)
    if target == Target.reward:
        return torch.where(present, rewards - known, 0)
    following, columns = rewards, []
    for column in range(known.shape[-1] - 1, -1, -1):
        columns.append(following)
        own = present[..., column : column + 1]
        following = torch.where(own, known[..., column : column + 1], following)
    return torch.where(present, torch.cat(columns[::-1], dim=-1) - known, 0)
