"""Values of games whose players have a structure: unions of players, or neighbours in a text."""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from rlcredit.credit.masked import full_precision
from rlcredit.credit.shapley import players_of_table, real_players_table


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
    # The value is linear in v, so it is a weighted sum over windows; the weights depend on nothing
    # but the number of players.
    n = windows.shape[-1]
    upper = torch.ones(n, n, dtype=torch.bool, device=windows.device).triu()
    values = full_precision(windows)
    weights = _path_weights(n, values)
    if num_players is None:
        return torch.where(upper, values, 0).flatten(-2) @ weights[n].flatten(0, 1)
    # Games of fewer players: windows among the first so many, with the weights of their own n.
    counts = num_players[..., None, None]
    kept = upper & (torch.arange(n, device=windows.device) < counts)
    values = torch.where(kept, values, 0).flatten(-2).unsqueeze(-2)
    return (values @ weights.flatten(1, 2)[num_players.long()]).squeeze(-2)


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
    # Windows a..b that count as evaluated, and w(|S|) for windows S + i, so with |S| = width - 1.
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


def _path_weights(n: int, like: Tensor) -> Float[Tensor, "counts n n n"]:
    """Weight of v(a..b) in the Myerson value of player i, for paths of 0 to n players."""
    index = torch.arange(n, device=like.device)
    counts = torch.arange(n + 1, device=like.device)[:, None, None]
    start, end = index[:, None], index
    # (m-1)! e! / (m+e)! is 1/m, 1/(m (m+1)), 2/(m (m+1) (m+2)) for e = 0, 1, 2 players outside.
    m = (end - start + 1).clamp(min=1).to(like.dtype)
    outside = (start > 0).long() + (end < counts - 1).long()
    orders = m * torch.where(outside >= 1, m + 1, 1) * torch.where(outside == 2, (m + 2) / 2, 1)
    weight = torch.where((start <= end) & (end < counts), 1 / orders, 0)
    # v(a..b) enters player i's value with a plus in the bracket of a..b itself, for i inside, ...
    start, end = start[..., None], end[:, None]
    inside = (start <= index) & (index <= end)
    # ... with a minus as what is left of i, for i = b + 1, of every window that begins at a, ...
    begun = weight.flip(-1).cumsum(dim=-1).flip(-1)[:, :, None, :]
    # ... and as what is right of i, for i = a - 1, of every window that ends at b.
    ended = weight.cumsum(dim=-2).transpose(-1, -2)[:, None, :, :]
    gained = torch.where(inside, weight.unsqueeze(-1), 0)
    return gained - (index == end + 1) * begun - (index == start - 1) * ended


def _without_last(table: Shaped[Tensor, "*batch n n"]) -> Shaped[Tensor, "*batch n n"]:
    """Cell (a, b) of the result is cell (a, b - 1) of the table; zero for b = 0."""
    return pad(table, (1, 0))[..., :-1]


def _without_first(table: Shaped[Tensor, "*batch n n"]) -> Shaped[Tensor, "*batch n n"]:
    """Cell (a, b) of the result is cell (a + 1, b) of the table; zero for the last a."""
    return pad(table, (0, 0, 0, 1))[..., 1:, :]


def _pair_weights(n: int, like: Tensor) -> Float[Tensor, "counts sizes"]:
    """w[k, s] = 1 / (k C(k-1, s)) for games of k <= n players; 0 where s >= k."""
    rows = [
        [1 / (k * math.comb(k - 1, s)) if s < k else 0.0 for s in range(max(n, 1))]
        for k in range(n + 1)
    ]
    return torch.tensor(rows, dtype=like.dtype, device=like.device)


def owen_value(
    values: Float[Tensor, "*batch S"],
    *,
    unions: Int[Tensor, "*batch n"],
    num_players: Int[Tensor, "*batch"] | None = None,
) -> Float[Tensor, "*batch n"]:
    """Owen value: the mean marginal contribution over orders in which no union is interrupted.

    phi_i = sum_{H of unions without i's} sum_{T of i's union without i}
            h! (m-h-1)! / m!  t! (b-t-1)! / b!  [ v(H + T + i) - v(H + T) ]

    for m unions and b players in i's own (standard, Owen 1977). Efficient; the unions' totals are
    the Shapley value of the game between unions. Singleton unions, or one union: the Shapley
    value.

    Args:
        values: ``values[S]`` = v(S) in reward units; bit i of the index S says whether player i
            is in.
        unions: Any label of each player's union; one row serves all games if it has no batch axes.
        num_players: Players of each game, the bits after them being padding; None: all of them.

    Returns:
        Value of each player, 0 for padding.

    Raises:
        ValueError: If the table's length is no power of two, or is not that of the unions.
    """
    n = players_of_table(values)
    if unions.shape[-1] != n:
        raise ValueError(
            f"{unions.shape[-1]} union labels for a game of {n} players; give one to each player"
        )
    table = real_players_table(values, num_players)
    if n == 0:
        return table[..., :0]
    real = torch.ones_like(unions, dtype=torch.bool)
    if num_players is not None:
        real = torch.arange(n, device=unions.device) < num_players.unsqueeze(-1)
        unions = unions.expand(real.shape)
    # Linear in v again: [*batch, S, n] weights, of which most are 0.
    weights = _owen_weights(unions, real).to(table)
    credit = (table.unsqueeze(-1) * weights).sum(dim=-2)
    return torch.where(real, credit, 0)


def _owen_weights(
    unions: Int[Tensor, "*batch n"], real: Bool[Tensor, "*batch n"]
) -> Float[Tensor, "*batch S n"]:
    """Weight of v(S) in player i's value; 0 unless S is whole unions and players of i's own.

    S stands in i's sum as H + T + i if i is in it, with a plus, and as H + T if not, with a minus.
    Padding players are null players, each a union of its own: they change nobody's value.
    """
    n = unions.shape[-1]
    index = torch.arange(n, device=unions.device)
    together = (unions.unsqueeze(-1) == unions.unsqueeze(-2)) & real.unsqueeze(-1)
    together = (together & real.unsqueeze(-2)) | torch.eye(n, device=unions.device).bool()
    # A union goes by the index of its first player.
    union = torch.where(together, index, n).amin(dim=-1)
    belongs = (union.unsqueeze(-1) == index).to(torch.float64)
    # Members of each union in each S, [*batch, S, n]; unions that do not exist have size 0.
    coalitions = torch.arange(2**n, device=unions.device).unsqueeze(-1)
    inside = (coalitions >> index & 1).to(torch.float64)
    count = inside @ belongs
    size = belongs.sum(dim=-2, keepdim=True)
    full, partial = (count == size) & (size > 0), (count > 0) & (count < size)
    # From unions to players: those of i's own union, and h whole and some broken ones beside it.
    place = union.unsqueeze(-2).expand(*count.shape[:-2], 2**n, n)
    own_count, own_size = count.gather(-1, place), size.expand_as(count).gather(-1, place)
    own_full, own_partial = full.gather(-1, place), partial.gather(-1, place)
    whole = full.sum(dim=-1, keepdim=True) - own_full.long()
    broken = partial.sum(dim=-1, keepdim=True) - own_partial.long()
    num_unions = (size > 0).sum(dim=-1, keepdim=True).expand_as(whole)
    joined = inside.bool().expand_as(place)
    # s! (k-s-1)! / k!, the share of k players' orders in which s given ones come before a given
    # one, and no other: of the m unions with s = h, of the b players of i's own with s = t.
    orders = _pair_weights(n, count)
    between = orders[num_unions, whole]
    within = orders[own_size.long(), (own_count - joined.double()).long().clamp(min=0)]
    weight = torch.where(joined, 1.0, -1.0) * between * within
    return torch.where(broken == 0, weight, 0)
