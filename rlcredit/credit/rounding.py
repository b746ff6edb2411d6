"""When numbers that were computed are equal: the one tolerance, and what is told apart by it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad


def tolerance(
    rewards: Float[Tensor, "*batch N"], *, num_added: int | Int[Tensor, "*batch"] = 1
) -> Float[Tensor, "*batch"]:
    """The most by which two equal values of rewards differ, for rounding alone.

    4 sqrt(n) eps max|r|,   eps that of the rewards' own dtype, n rewards added up in a value

    Derived here. A value is sum_S w_S v(S), with sum |w_S| <= 2: the mean of marginal contributions
    v(S + i) - v(S). (On a path v(S) is that of two runs, and each neighbour comes before i in half
    of all orders: 2 again; a reward is its own value, n = 1.) Every v(S) is known to u = eps / 2 of
    itself, which moves the value by at most 2 u max|r|; its n products and sums move it by another
    2 sqrt(n) u max|r|, since rounding errors grow with the root of their number (Higham and Mary
    2019, A New Approach to Probabilistic Rounding Error Analysis, section 3). That is at most
    4 sqrt(n) u max|r| for one value, and twice that for the difference of two.

    Args:
        rewards: That the values are made of, in reward units; 0 where one does not count.
        num_added: Rewards added up in a value, at least 1.

    Returns:
        The tolerance, in reward units and the rewards' dtype.
    """
    eps = torch.finfo(rewards.dtype).eps
    added = torch.as_tensor(num_added, device=rewards.device).clamp(min=1)
    return 4 * eps * added.to(rewards.dtype).sqrt() * rewards.abs().amax(dim=-1)


def all_equal(
    values: Float[Tensor, "*batch N"],
    mask: Bool[Tensor, "*batch N"] | None = None,
    *,
    num_added: int = 1,
) -> Bool[Tensor, "*batch"]:
    """True where the counted values differ by no more than their tolerance (derived here).

    Args:
        values: Rewards, or numbers of their kind.
        mask: True where a value counts; None: everywhere.
        num_added: Rewards added up in a value.

    Returns:
        One flag per row; True where nothing counts.
    """
    if mask is None:
        mask = torch.ones_like(values, dtype=torch.bool)
    highest = torch.where(mask, values, -torch.inf).amax(dim=-1)
    lowest = torch.where(mask, values, torch.inf).amin(dim=-1)
    return highest - lowest <= tolerance(torch.where(mask, values, 0), num_added=num_added)


def settled(
    credit: Float[Tensor, "*batch M"], within: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch M"]:
    """Credit in which what differs by rounding alone is one number, so that ``==`` tells it.

    Derived here: in ascending order, with 0 among them, neighbours no further apart than the
    tolerance are of one level, which takes its lowest number, or 0 where 0 is in it. So "equal" is
    transitive, whatever stands between two equal credits.

    Args:
        credit: In reward units.
        within: From :func:`tolerance`, of the same rows.

    Returns:
        The credit; what is alone on its level, to the last bit.
    """
    ascending, order = pad(credit, (1, 0)).sort(dim=-1)
    gaps = torch.diff(ascending, dim=-1, prepend=torch.full_like(ascending[..., :1], -torch.inf))
    begins = gaps > within.unsqueeze(-1)
    lowest = torch.where(begins, ascending, -torch.inf).cummax(dim=-1).values
    levels = torch.zeros_like(lowest).scatter(-1, order, lowest)
    return torch.where(levels == levels[..., :1], 0, levels)[..., 1:]
