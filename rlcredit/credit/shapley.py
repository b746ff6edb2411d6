"""Shapley values: of any game from its table, and closed forms of games that have one.

The value of a player is its mean marginal contribution over all orders of joining. Every function
is batched over leading axes and computes in at least float32; float64 is kept.
"""

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from rlcredit.credit.masked import full_precision

MOST_PLAYERS = 16
"""The most players of a game given by its table of 2^n values."""


def shapley_value(
    values: Float[Tensor, "*batch S"], *, num_players: Int[Tensor, "*batch"] | None = None
) -> Float[Tensor, "*batch n"]:
    """Exact Shapley value of a game given by the values of all its coalitions.

    phi_i = sum_{S without i} |S|! (n-|S|-1)! / n!  [ v(S + i) - v(S) ]      standard (Shapley 1953)

    One matrix product. Efficient: the values sum to v(N) - v(empty).

    Args:
        values: ``values[S]`` = v(S) in reward units; bit i of the index S says whether player i
            is in.
        num_players: Players of each game, the bits after them being padding; None: all of them.

    Returns:
        Value of each player, 0 for padding.

    Raises:
        ValueError: If the table's length is no power of two, or there are more than 16 players.
    """
    n = players_of_table(values)
    table = real_players_table(values, num_players)
    credit = table @ _table_weights(n, table)
    return credit if num_players is None else torch.where(_real(n, num_players), credit, 0)


def players_of_table(values: Shaped[Tensor, "*batch S"]) -> int:
    """Number of players of a game's table (standard); ValueError if its length is no 2^n."""
    length = values.shape[-1]
    n = length.bit_length() - 1
    if length != 2**n:
        raise ValueError(f"a game's table has {length} values; n players have 2^n coalitions")
    if n > MOST_PLAYERS:
        raise ValueError(f"the table of {n} players is too large; use at most {MOST_PLAYERS}")
    return n


def real_players_table(
    values: Float[Tensor, "*batch S"], num_players: Int[Tensor, "*batch"] | None
) -> Float[Tensor, "*batch S"]:
    """The table in which padding is null players: v(S) = v(S without padding) (standard)."""
    table = full_precision(values)
    if num_players is None:
        return table
    index = torch.arange(table.shape[-1], device=table.device)
    last = (2 ** num_players.long() - 1).unsqueeze(-1)
    return table.gather(-1, index & last)


def _real(n: int, num_players: Int[Tensor, "*batch"]) -> Bool[Tensor, "*batch n"]:
    """True for the first players of each game."""
    return torch.arange(n, device=num_players.device) < num_players.unsqueeze(-1)


def _table_weights(n: int, like: Tensor) -> Float[Tensor, "S n"]:
    """Weight of v(S) in player i's value: positive where i is in S, negative where it is not."""
    orders = [0.0, *(1 / (n * math.comb(n - 1, s)) for s in range(n)), 0.0]
    by_size = torch.tensor(orders, dtype=like.dtype, device=like.device)
    inside = (
        torch.arange(2**n, device=like.device).unsqueeze(-1) >> torch.arange(n, device=like.device)
        & 1
    )
    size = inside.sum(dim=-1, keepdim=True)
    return torch.where(inside == 1, by_size[size], -by_size[size + 1])


def shapley_of_max(
    rewards: Float[Tensor, "*batch K"], mask: Bool[Tensor, "*batch K"] | None = None
) -> Float[Tensor, "*batch K"]:
    """Shapley value of the game in which a set earns its best member's reward, v(empty) = 0.

    With rewards ascending and r_(0) = 0:  phi_(k) = sum_{j <= k} (r_(j) - r_(j-1)) / (K - j + 1)

    Derived here (the airport game's argument): v is the sum over j of the games "r_(j) - r_(j-1) if
    any of the K - j + 1 members at rank j or above is in"; in each, those share equally, the others
    are null. ShapE's utility, arXiv:2603.29871. Holds for any real rewards and any ties.

    Args:
        rewards: Of the players alone, in reward units.
        mask: False for places without a player; None: everyone plays.

    Returns:
        Value of each player, 0 where masked; sums to the largest reward.
    """
    return shapley_of_top(rewards, m=1, mask=mask)


def shapley_of_top(
    rewards: Float[Tensor, "*batch K"], *, m: int, mask: Bool[Tensor, "*batch K"] | None = None
) -> Float[Tensor, "*batch K"]:
    """Shapley value of the game in which a set earns the sum of its m largest rewards.

    phi_(k) = sum_{j <= k} (r_(j) - r_(j-1)) min(m, K - j + 1) / (K - j + 1),  ascending, r_(0) = 0

    Derived here as for the maximum: v is the sum over j of (r_(j) - r_(j-1)) min(m, number of
    members at rank j or above), and each such game is symmetric in those members. m = 1 is the
    maximum, m >= K the sum. A set of fewer than m members earns the sum of all of them, negative
    ones included.

    Args:
        rewards: Of the players alone, in reward units.
        m: How many count.
        mask: False for places without a player; None: everyone plays.

    Returns:
        Value of each player, 0 where masked; sums to the m largest rewards.

    Raises:
        ValueError: If ``m`` is below 1.
    """
    if m < 1:
        raise ValueError(f"m is {m}; a set earns the sum of its m largest rewards, m >= 1")
    values = full_precision(rewards)
    if mask is None:
        mask = torch.ones_like(values, dtype=torch.bool)
    order = torch.where(mask, values, -torch.inf).argsort(dim=-1, stable=True)
    ascending = torch.where(mask, values, 0).gather(-1, order)
    steps = torch.diff(ascending, dim=-1, prepend=torch.zeros_like(ascending[..., :1]))
    # Masked places come first with steps of 0, so K - j + 1 counts the players from here on.
    sharing = values.shape[-1] - torch.arange(values.shape[-1], device=values.device)
    shares = (steps * sharing.clamp(max=m) / sharing).cumsum(dim=-1)
    credit = torch.zeros_like(shares).scatter(-1, order, shares)
    return torch.where(mask, credit, 0)


def shapley_of_any(
    probabilities: Float[Tensor, "*batch K"], mask: Bool[Tensor, "*batch K"] | None = None
) -> Float[Tensor, "*batch K"]:
    """Shapley value of the game in which a set earns the chance that any member succeeds.

    v(S) = 1 - prod_{j in S} (1 - p_j),    phi_k = p_k integral_0^1 prod_{j != k} (1 - x p_j) dx

    Derived here: k's marginal is p_k times the chance that no member before it succeeds; give each
    member a uniform time of joining, and those before time x fail with probability
    prod (1 - x p_j). The integrand has degree K - 1 in x, so Gauss-Legendre with ceil(K / 2)
    nodes is exact.

    Args:
        probabilities: Of success, independent, in [0, 1].
        mask: False for places without a player; None: everyone plays.

    Returns:
        Value of each player, 0 where masked.

    Raises:
        ValueError: If a probability is outside [0, 1].
    """
    p = full_precision(probabilities)
    if mask is not None:
        p = torch.where(mask, p, 0)
    if not bool(((p >= 0) & (p <= 1)).all()):
        bad = p[~((p >= 0) & (p <= 1))][0].item()
        raise ValueError(f"a probability is {bad}; utility=any needs rewards in [0, 1]")
    nodes, weights = _gauss_legendre(max(1, math.ceil(p.shape[-1] / 2)), p)
    fails = 1 - nodes.unsqueeze(-1) * p.unsqueeze(-2)
    ones = torch.ones_like(fails[..., :1])
    before = torch.cat([ones, fails[..., :-1]], dim=-1).cumprod(dim=-1)
    after = torch.cat([fails[..., 1:], ones], dim=-1).flip(-1).cumprod(dim=-1).flip(-1)
    return p * (weights.unsqueeze(-1) * before * after).sum(dim=-2)


def _gauss_legendre(num_nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], by the eigenvalues of the Jacobi matrix (Golub-Welsch)."""
    k = torch.arange(1, num_nodes, dtype=torch.float64)
    beside = k / (4 * k.square() - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(beside, 1) + torch.diag(beside, -1))
    return ((nodes + 1) / 2).to(like), vectors[0].square().to(like)


def shapley_of_coverage(
    membership: Bool[Tensor, "*batch K E"], weights: Float[Tensor, "*batch E"] | None = None
) -> Float[Tensor, "*batch K"]:
    """Shapley value of the game in which a set earns the weight of the elements it covers.

    phi_k = sum over the elements e of k of  w_e / (number of players that have e)

    Derived here: v is the sum over elements of the games "w_e if anyone who has e is in", in which
    those who have it share equally.

    Args:
        membership: Which player has which element.
        weights: Of the elements, in reward units; None: 1 each.

    Returns:
        Value of each player; sums to the weight of the union.
    """
    has = membership.to(torch.float32 if weights is None else full_precision(weights).dtype)
    share = 1 / has.sum(dim=-2).clamp(min=1)
    if weights is not None:
        share = share * weights
    return (has * share.unsqueeze(-2)).sum(dim=-1)
