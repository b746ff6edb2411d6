"""Tables of coalition values, made from the coalitions that were evaluated.

A *compact* game has its players in the first columns, in text order; the number of players differs
from game to game, and the columns after them are padding.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.credit.masked import full_precision


def player_order(players: Bool[Tensor, "*batch M"]) -> Int[Tensor, "*batch M"]:
    """Columns with players first, each part in text order (standard)."""
    return torch.argsort((~players).to(torch.uint8), dim=-1, stable=True)


def window_table(
    members: Bool[Tensor, "*batch C M"],
    rewards: Float[Tensor, "*batch C"],
    evaluated: Bool[Tensor, "*batch C"],
) -> tuple[Float[Tensor, "*batch M M"], Bool[Tensor, "*batch M M"]]:
    """Values of the windows among the coalitions of a compact game (standard).

    Args:
        members: Membership masks of a compact game; coalitions that are no window are passed over.
        rewards: Value of each coalition, in reward units.
        evaluated: False on rows whose value is unknown.

    Returns:
        ``table[a, b]`` = v(players a..b) for a <= b, 0 where unknown, and whether it is known.
    """
    num_players = members.shape[-1]
    if num_players == 0:
        empty = full_precision(rewards).new_zeros((*rewards.shape[:-1], 0, 0))
        return empty, empty.bool()
    index = torch.arange(num_players, device=members.device)
    size = members.sum(dim=-1)
    start = torch.where(members, index, num_players).amin(dim=-1)
    end = torch.where(members, index, -1).amax(dim=-1)
    is_window = evaluated & (size > 0) & (end - start + 1 == size)
    # What is no window is written to one cell behind the table, which is then cut off.
    cell = torch.where(is_window, start * num_players + end, num_players**2)
    shape = (*rewards.shape[:-1], num_players**2 + 1)
    values = full_precision(rewards)
    table = values.new_zeros(shape).scatter(-1, cell, torch.where(is_window, values, 0))
    known = torch.zeros(shape, dtype=torch.bool, device=members.device).scatter(-1, cell, is_window)
    square = (*rewards.shape[:-1], num_players, num_players)
    return table[..., :-1].reshape(square), known[..., :-1].reshape(square)


def subset_table(
    members: Bool[Tensor, "*batch C M"],
    rewards: Float[Tensor, "*batch C"],
    evaluated: Bool[Tensor, "*batch C"],
) -> Float[Tensor, "*batch S"]:
    """Values of all coalitions of a compact game, by bit pattern (standard).

    Args:
        members: Membership masks of a compact game.
        rewards: Value of each coalition, in reward units.
        evaluated: False on rows whose value is unknown.

    Returns:
        ``table[S]`` = v(S), where bit i of the index S says whether player i is in; 0 where
        unknown.
    """
    num_players = members.shape[-1]
    bits = 2 ** torch.arange(num_players, device=members.device)
    cell = torch.where(evaluated, (members * bits).sum(dim=-1), 2**num_players)
    values = full_precision(rewards)
    table = values.new_zeros((*rewards.shape[:-1], 2**num_players + 1))
    return table.scatter(-1, cell, torch.where(evaluated, values, 0))[..., :-1]


def without_each(
    members: Bool[Tensor, "*batch C M"],
    rewards: Float[Tensor, "*batch C"],
    evaluated: Bool[Tensor, "*batch C"],
    num_players: Int[Tensor, "*batch"],
) -> Float[Tensor, "*batch M"]:
    """Values of everyone but one player of a compact game, for each (standard).

    Args:
        members: Membership masks of a compact game.
        rewards: Value of each coalition, in reward units.
        evaluated: False on rows whose value is unknown.
        num_players: Players of each game.

    Returns:
        v(N without i) for each player i; 0 in the columns after the players, and where unknown.
    """
    index = torch.arange(members.shape[-1], device=members.device)
    players = index < num_players.unsqueeze(-1)
    absent = players.unsqueeze(-2) & ~members
    found = absent & (evaluated & (absent.sum(dim=-1) == 1)).unsqueeze(-1)
    return torch.where(found, full_precision(rewards).unsqueeze(-1), 0).sum(dim=-2)
