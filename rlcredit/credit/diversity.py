"""How much each rollout adds to the diversity of its group."""

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.masked import full_precision

SMALLEST_GROUP = 3
"""A leave-one-out diversity needs two rollouts to remain."""


def cosine_kernel(embeddings: Float[Tensor, "*batch G D"]) -> Float[Tensor, "*batch G G"]:
    """Similarity of each pair of rollouts, in [0, 1].

    k_ij = clamp(cos(e_i, e_j), 0, 1)      SetPO, arXiv:2602.01062, App. E.1

    A zero row (a text without content) is like other zero rows, k = 1, and unlike all else, k = 0.

    Args:
        embeddings: One row per rollout; of any length.

    Returns:
        The kernel, symmetric, with a diagonal of ones; in at least float32.
    """
    rows = full_precision(embeddings)
    norms = rows.norm(dim=-1, keepdim=True)
    empty = norms == 0
    # Empty texts share a direction of their own, at a right angle to every other.
    unit = torch.cat([rows / torch.where(empty, 1, norms), empty.to(rows)], dim=-1)
    kernel = (unit @ unit.transpose(-1, -2)).clamp(0, 1)
    diagonal = torch.eye(kernel.shape[-1], dtype=torch.bool, device=kernel.device)
    return torch.where(diagonal, 1, kernel)


def marginal_diversity(kernel: Float[Tensor, "*batch G G"]) -> Float[Tensor, "*batch G"]:
    """What the group's diversity loses without each rollout.

    s_i = D(all) - D(all but i),   D(S) = mean over y in S of g(m(y; S)),   g(x) = -log(1 + x)

    where m(y; S) is the mean similarity of y to the other members of S: SetPO, arXiv:2602.01062,
    Eq. 3-4. The self-similarity does not count. A constant kernel gives 0: the value ranks rollouts
    within a group, and its sum is never positive.

    Args:
        kernel: Symmetric similarities in [0, 1]; the diagonal is not read.

    Returns:
        Marginal of each rollout, in at least float32.

    Raises:
        ValueError: If G < 3.
    """
    group_size = kernel.shape[-1]
    if group_size < SMALLEST_GROUP:
        raise ValueError(
            f"the diversity of a group without one of its rollouts needs {SMALLEST_GROUP} or more "
            f"rollouts per prompt, not {group_size}; set trainer.group_size >= {SMALLEST_GROUP}"
        )
    diagonal = torch.eye(group_size, dtype=torch.bool, device=kernel.device)
    others = torch.where(diagonal, 0, full_precision(kernel))
    totals = others.sum(dim=-1, keepdim=True)
    whole = -torch.log1p(totals.squeeze(-1) / (group_size - 1)).mean(dim=-1, keepdim=True)
    # Row j, column i: the mean similarity of j to the others but i.
    without = (totals - others) / (group_size - 2)
    remaining = torch.where(diagonal, 0, -torch.log1p(without)).sum(dim=-2) / (group_size - 1)
    return whole - remaining
