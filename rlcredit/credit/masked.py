"""Sums, means and standard deviations of what a mask counts; the one definition of each.

Masked cells may hold anything, NaN and infinity included: they are replaced before any
arithmetic, so that neither a value nor a gradient leaks out of them.
"""

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor


def full_precision(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they already are (standard).

    Credit is never computed in half precision, and integers become float32.
    """
    if values.dtype == torch.float64:
        return values
    return values.to(torch.float32)


def masked_sum(
    values: Shaped[Tensor, "*axes"],
    mask: Bool[Tensor, "*axes"],
    *,
    dim: int = -1,
    keepdim: bool = False,
) -> Tensor:
    """Sum of the counted values along one axis (standard).

    Args:
        values: Anything; cells with a False mask are never read.
        mask: True where a value counts.
        dim: Axis to sum over.
        keepdim: Leave the axis in place with size 1.

    Returns:
        The sums, in at least float32; 0 where nothing counts.
    """
    kept = torch.where(mask, full_precision(values), 0)
    return kept.sum(dim=dim, keepdim=keepdim)


def masked_mean(
    values: Shaped[Tensor, "*axes"],
    mask: Bool[Tensor, "*axes"],
    *,
    dim: int = -1,
    keepdim: bool = False,
) -> Tensor:
    """Mean of the counted values along one axis (standard); 0 where nothing counts.

    Args:
        values: Anything; cells with a False mask are never read.
        mask: True where a value counts.
        dim: Axis to average over.
        keepdim: Leave the axis in place with size 1.

    Returns:
        The means, in at least float32.
    """
    count = mask.sum(dim=dim, keepdim=keepdim).clamp(min=1)
    return masked_sum(values, mask, dim=dim, keepdim=keepdim) / count


def masked_std(
    values: Shaped[Tensor, "*axes"],
    mask: Bool[Tensor, "*axes"],
    *,
    dim: int = -1,
    keepdim: bool = False,
    correction: int = 0,
) -> Tensor:
    """Standard deviation of the counted values along one axis (standard).

    std = sqrt(sum (x - mean)^2 / (count - correction))

    Args:
        values: Anything; cells with a False mask are never read.
        mask: True where a value counts.
        dim: Axis to measure along.
        keepdim: Leave the axis in place with size 1.
        correction: 0 for the population's, 1 for the unbiased estimate.

    Returns:
        The deviations, in at least float32; 0 where no more than ``correction`` values count.
    """
    mean = masked_mean(values, mask, dim=dim, keepdim=True)
    squares = (torch.where(mask, full_precision(values), 0) - mean).square()
    count = mask.sum(dim=dim, keepdim=keepdim) - correction
    variance = masked_sum(squares, mask, dim=dim, keepdim=keepdim) / count.clamp(min=1)
    return torch.where(count > 0, variance, 0).sqrt()
