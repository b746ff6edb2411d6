"""Return-to-go of prefixes: what a response earns beyond the text before each of its segments."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.credit.group import Scale, over_std
from rlcredit.credit.masked import full_precision
from rlcredit.credit.spread import spread_segment


def prefix_table(
    members: Bool[Tensor, "*batch C M"],
    rewards: Float[Tensor, "*batch C"],
    evaluated: Bool[Tensor, "*batch C"],
) -> Float[Tensor, "*batch N"]:
    """Values of the first 0, 1, ..., M players of a compact game (standard); 0 where unknown.

    Args:
        members: Membership masks of a compact game; coalitions that are no prefix are passed over.
        rewards: Value of each coalition, in reward units.
        evaluated: False on rows whose value is unknown.

    Returns:
        M + 1 values; the first is v(empty).
    """
    num_players = members.shape[-1]
    size = members.sum(dim=-1)
    index = torch.arange(num_players, device=members.device)
    is_prefix = evaluated & (members == (index < size.unsqueeze(-1))).all(dim=-1)
    cell = torch.where(is_prefix, size, num_players + 1)
    values = full_precision(rewards)
    table = values.new_zeros((*rewards.shape[:-1], num_players + 2))
    return table.scatter(-1, cell, torch.where(is_prefix, values, 0))[..., :-1]


def judged_segment(
    ids: Int[Tensor, "*batch T"], response_mask: Bool[Tensor, "*batch T"]
) -> Int[Tensor, "*batch T"]:
    """The segment that was being written when each token was chosen.

    Derived here: a baseline may depend on the state a token was chosen in, never on the token.
    After a token of segment k every choice is judged as part of k: to go on, to end it by a
    separator, to end the text. After a token of no segment (a separator) the next segment is due,
    and every choice is judged as part of that one: to begin it, or to end the text without it.

    Args:
        ids: Segment of each token, ascending; -1 outside every segment.
        response_mask: True on response tokens.

    Returns:
        Segment index of each token, at most one more than the last segment's; 0 outside the
        response.
    """
    before = torch.cat([torch.full_like(ids[..., :1], -1), ids[..., :-1]], dim=-1)
    judged = before.cummax(dim=-1).values + (before < 0).long()
    return torch.where(response_mask, judged, 0)


def return_to_go(
    reward: Float[Tensor, "*batch"],
    prefixes: Float[Tensor, "*batch N"],
    players: Bool[Tensor, "*batch M"],
) -> Float[Tensor, "*batch N"]:
    """The reward less the value of the text before each segment, and before the end.

    Q_k = R - v(segments before k) = sum_{j >= k} [v(first j + 1) - v(first j)]

    Derived here: the baseline v(segments before k) is a function of the state in which segment k is
    begun. It does not depend on what follows, so the policy gradient keeps its expectation; this is
    potential-based shaping with the potential v(prefix). Q_0 = R.

    Args:
        reward: Of the whole response, in reward units.
        prefixes: From :func:`prefix_table`.
        players: True for segments that play; the others add nothing to a prefix.

    Returns:
        One credit per segment and one for what follows the last, in reward units.
    """
    ahead = torch.zeros_like(players[..., :1], dtype=torch.long)
    num_before = torch.cat([ahead, players.long().cumsum(dim=-1)], dim=-1)
    return full_precision(reward).unsqueeze(-1) - prefixes.gather(-1, num_before)


def relative_to_go(
    to_go: Float[Tensor, "P G N"], place: Int[Tensor, "P G T"]
) -> Float[Tensor, "P G N"]:
    """Returns to go less the siblings' mean in the same column (standard); 0 beyond a response.

    Args:
        to_go: One value per segment and one for what follows the last.
        place: From :func:`judged_segment`.

    Returns:
        The centred values; the siblings' mean is that of :func:`siblings_mean`.
    """
    columns = torch.arange(to_go.shape[-1], device=to_go.device)
    present = columns <= place.amax(dim=-1, keepdim=True)
    return torch.where(present, to_go - siblings_mean(to_go, present), 0)


def siblings_mean(
    values: Float[Tensor, "P G M"], present: Bool[Tensor, "P G M"]
) -> Float[Tensor, "P G M"]:
    """Mean over the other rollouts of the group that have a value in the same column (standard).

    Where none of them gets that far, the mean of their last values.

    Args:
        values: One row per rollout.
        present: True where a rollout has a value: in its first columns, one at least.

    Returns:
        The mean for each rollout, whether or not it has a value itself.
    """
    kept = torch.where(present, full_precision(values), 0)
    last = kept.gather(-1, present.sum(dim=-1, keepdim=True) - 1)
    total = kept.sum(dim=1, keepdim=True) - kept
    count = present.sum(dim=1, keepdim=True) - present.long()
    last_mean = (last.sum(dim=1, keepdim=True) - last) / (values.shape[1] - 1)
    return torch.where(count > 0, total / count.clamp(min=1), last_mean)


def tokens_to_go(
    to_go: Float[Tensor, "P G N"],
    segment_ids: Int[Tensor, "P G T"],
    mask: Bool[Tensor, "P G T"],
    rewards: Float[Tensor, "P G"],
    *,
    scale: Scale,
    eps: float,
) -> tuple[Float[Tensor, "P G T"], Float[Tensor, "P G T"]]:
    """Advantage and credit of each token: those of the segment that was being written (standard).

    Args:
        to_go: What each segment and those behind it earned, and what follows the last.
        segment_ids: The segment of each token.
        mask: True on response tokens.
        rewards: One reward per rollout.
        scale: Whether to divide by the group's std of rewards.
        eps: Added to the divisor, in reward units.

    Returns:
        What is to go less the siblings' mean at the same segment, scaled; and what is to go itself.
        Both are 0 outside the response.
    """
    place = judged_segment(segment_ids, mask)
    centred = relative_to_go(to_go, place)
    if scale == Scale.std:
        centred = over_std(centred, rewards, eps=eps)
    values, credit = (torch.where(mask, spread_segment(x, place), 0) for x in (centred, to_go))
    return values, credit
