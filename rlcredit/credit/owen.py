"""Values of games whose players have a structure: unions of players, or neighbours in a text."""

import math
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from rlcredit.credit.masked import full_precision


def path_myerson_value(
    windows: Float[Tensor, "*batch n n"], *, num_players: Int[Tensor, "*batch"] | None = None
) -> Float[Tensor, "*batch n"]:
    """Myerson value of the game whose players stand in a row: only neighbours can cooperate.

    phi_i = sum_{a <= i <= b} (m-1)! e! / (m+e)!  [ v(a..b) - v(a..i-1) - v(i+1..b) ]

    with m = b - a + 1, and e the number of players that touch the window from outside (0, 1 or 2).
    Derived here: it is the Shapley value of v^L(S) = sum of v over the runs of S. In a random
    order the run that i joins is a..b if i comes last of the m players and the e neighbours come
    after it, which has probability (m-1)! e! / (m+e)!; i's marginal is then the bracket.
    Efficient: the values sum to v(N), v(empty) = 0. The only value that is component efficient
    and fair (Myerson 1977).

    Args:
        windows: ``windows[a, b]`` = v(players a..b) for a <= b, in reward units; cells
            below the diagonal are not read.
        num_players: Players of each game, the others being padding; None: all of them.

    Returns:
        Value of each player, 0 for padding; in at least float32.
    """
    start, end, counts = _grid(windows, num_players)
    inside = (start <= end) & (end < counts)
    values = torch.where(inside, full_precision(windows), 0)
    m = (end - start + 1).clamp(min=1).to(values)
    outside = (start > 0).long() + (end < counts - 1).long()
    orders = m * torch.where(outside >= 1, m + 1, 1) * torch.where(outside == 2, (m + 2) / 2, 1)
    weight = torch.where(inside, 1 / orders, 0)
    joined = (weight * values).cumsum(dim=-2).flip(-1).cumsum(dim=-1).flip(-1)
    from_start = weight.flip(-1).cumsum(dim=-1).flip(-1)
    to_end = weight.cumsum(dim=-2)
    lost_left = (from_start * _without_last(values)).sum(dim=-2)
    lost_right = (to_end * _without_first(values)).sum(dim=-1)
    return joined.diagonal(dim1=-2, dim2=-1) - lost_left - lost_right


def window_value(
    windows: Float[Tensor, "*batch n n"],
    *,
    max_width: int,
    normalise: bool,
    evaluated: Bool[Tensor, "*batch n n"] | None = None,
    num_players: Int[Tensor, "*batch"] | None = None,
) -> Float[Tensor, "*batch n"]:
    """OSPO's window estimator of the Shapley value, as released or self-normalised.

    phi_i = sum_{S, S+i evaluated} w(|S|) [ v(S + i) - v(S) ],   w(s) = 1 / (n C(n-1, s))

    over S empty, windows that end at i-1 and windows that start at i+1 (arXiv:2601.08403, its
    released code). A window counts as evaluated if it is no wider than ``max_width`` or is
    everyone; the empty coalition always is, with v = 0. The weights do not sum to 1, so this form
    is neither efficient nor symmetric. ``normalise=True`` divides by the sum of the weights
    present: then additive games get phi_i = v(i) for every width and every sample. A player
    without a pair gets 0.

    Args:
        windows: ``windows[a, b]`` = v(players a..b) for a <= b, in reward units.
        max_width: The widest window, besides everyone, that counts.
        normalise: Divide each player's sum by its weights.
        evaluated: Cells of ``windows`` that are known; None: all of them.
        num_players: Players of each game, the others being padding; None: all of them.

    Returns:
        Value of each player, 0 for padding; in at least float32.

    Raises:
        ValueError: If ``max_width`` is below 1.
    """
    if max_width < 1:
        raise ValueError(f"max_width is {max_width}; a window holds at least 1 segment")
    n = windows.shape[-1]
    start, end, counts = _grid(windows, num_players)
    width = end - start + 1
    known = (width >= 1) & (end < counts) & ((width <= max_width) | (width == counts))
    if evaluated is not None:
        known = known & evaluated
    values = torch.where(known, full_precision(windows), 0)
    weight = _pair_weights(n, values)[counts.expand_as(known), (width - 1).clamp(min=0)]
    # Player i closes the window a..i, whose rest is a..i-1 (empty for a = i), or opens the window
    # i..b for i < b, whose rest is i+1..b.
    closes = torch.where(known & (_without_last(known) | (start == end)), weight, 0)
    opens = torch.where(known & _without_first(known) & (start < end), weight, 0)
    total = (closes * (values - _without_last(values))).sum(dim=-2)
    total = total + (opens * (values - _without_first(values))).sum(dim=-1)
    weights = closes.sum(dim=-2) + opens.sum(dim=-1)
    return total / torch.where(weights > 0, weights, 1) if normalise else total


def _grid(
    windows: Float[Tensor, "*batch n n"], num_players: Int[Tensor, "*batch"] | None
) -> tuple[Int[Tensor, "n 1"], Int[Tensor, "1 n"], Tensor]:
    """First and last player of each cell, and the number of players beside each table."""
    n = windows.shape[-1]
    index = torch.arange(n, device=windows.device)
    if num_players is None:
        num_players = torch.full(windows.shape[:-2], n, device=windows.device)
    return index.unsqueeze(1), index.unsqueeze(0), num_players[..., None, None]


def _without_last(table: Shaped[Tensor, "*batch n n"]) -> Shaped[Tensor, "*batch n n"]:
    """Cell (a, b) of the result is cell (a, b - 1) of the table; zero for b = 0."""
    return pad(table, (1, 0))[..., :-1]


def _without_first(table: Shaped[Tensor, "*batch n n"]) -> Shaped[Tensor, "*batch n n"]:
    """Cell (a, b) of the result is cell (a + 1, b) of the table; zero for the last a."""
    return pad(table, (0, 0, 0, 1))[..., 1:, :]


def _pair_weights(n: int, like: Tensor) -> Float[Tensor, "counts sizes"]:
    """w[k, s] = 1 / (k C(k-1, s)) for games of k <= n players; 0 where s >= k."""
    return torch.tensor(_pair_weight_rows(n), dtype=like.dtype, device=like.device)


@lru_cache(maxsize=64)
def _pair_weight_rows(n: int) -> list[list[float]]:
    """The numbers of :func:`_pair_weights`."""
    return [
        [1 / (k * math.comb(k - 1, s)) if s < k else 0.0 for s in range(max(n, 1))]
        for k in range(n + 1)
    ]
