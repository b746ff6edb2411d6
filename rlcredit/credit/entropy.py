"""The order of an update's tokens by the entropy of the policy where they were chosen."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.rounding import settled

TIES = {torch.float64: 1e-9}
OTHER_TIE = 1e-5
"""Nats by which entropies of one state may differ, for rounding alone, in float64 and float32."""


def entropy_ranks(
    entropy: Float[Tensor, "P G T"], mask: Bool[Tensor, "P G T"]
) -> Float[Tensor, "P G T"]:
    """Share of the other tokens whose entropy is higher; 0 on masked tokens.

    rank_t = #{s : H_s > H_t} / (N - 1)

    Derived here: rank <= q holds for the tokens of H_t >= the (1 - q)-quantile of all H (linear
    between neighbours), ties included, which is the mask of arXiv:2506.01939 as TRL has it. Tokens
    of one state have one entropy but for rounding, which depends on the layout of a batch: so
    neighbours in order that differ by rounding alone are ties.

    Args:
        entropy: In nats.
        mask: True on the N tokens of the update.

    Returns:
        Ranks from 0 (the highest entropy) to 1, in float64.
    """
    counted = entropy[mask]
    tie = torch.tensor(TIES.get(entropy.dtype, OTHER_TIE), dtype=entropy.dtype)
    levels = settled(counted, tie.to(counted.device))
    ascending = levels.sort().values
    higher = len(levels) - torch.searchsorted(ascending, levels, right=True)
    ranks = torch.zeros(entropy.shape, dtype=torch.float64, device=entropy.device)
    ranks[mask] = higher.double() / max(len(levels) - 1, 1)
    return ranks
