"""Estimated gradients where no exact one is known: a second estimate stands in for it.

Both come from the same replicates, which are cut into halves a and b. The inner product of a half
with itself would take its noise for length, so every inner product takes one factor from each half.
With g the estimator's mean gradient and t that of an unbiased one,

    bias^2   <g_a - t_a, g_b - t_b>        length^2 of t   <t_a, t_b>        along t   <g_a, t_b>

have no noise in their means. What is not symmetric is averaged over both ways round.
"""

from dataclasses import dataclass

import numpy as np

from rlcredit.bench.compare import BUDGET, Array, Resampled, Resampler, interval, variances


@dataclass(frozen=True, kw_only=True)
class SampledComparison:
    """An estimator's gradient beside an unbiased estimate, in units of the latter's length."""

    scale: Resampled
    """Length along the true gradient: 1 is right."""
    cosine: Resampled
    """Of the expected gradient with the true one; beyond 1 where noise is left in the lengths."""
    bias: Resampled
    """Length of (expected - true) over that of the true gradient."""
    variance: Resampled
    """Of one replicate, summed over coordinates, over the true length squared."""
    errors: dict[str, Resampled]
    """Unit of cost -> the mean squared error of a gradient at the best rate, averaged over what
    ``BUDGET`` units buy, over the true length squared: 1 is no use at all."""


def compare_sampled(
    gradients: Array, reference: Array, resampler: Resampler, *, costs: dict[str, float]
) -> SampledComparison:
    """All figures of one estimator.

    Args:
        gradients: [N, D], one per replicate.
        reference: [N, D], of the same replicates, whose mean is the true gradient.
        resampler: For N replicates.
        costs: Unit -> what one replicate costs.

    Raises:
        ValueError: If the replicates are too few to tell the true gradient from noise.
    """
    (a, b), (s, t) = resampler.means(gradients), resampler.means(reference)
    length = _inner(s, t)
    if np.quantile(length[1:], 0.025) <= 0:
        raise ValueError(
            f"{len(reference)} replicates do not tell the true gradient from noise; draw more"
        )
    along = (_inner(a, t) + _inner(b, s)) / 2 / length
    power = _inner(a, b) / length
    square = _inner(a - s, b - t) / length
    variance = variances(gradients, resampler) / length
    return SampledComparison(
        scale=interval(along),
        cosine=interval(along / np.sqrt(np.where(power > 0, power, np.inf))),
        bias=interval(np.sqrt(np.maximum(square, 0))),
        variance=interval(variance),
        errors={
            unit: interval(_at_best_rate(along, power + variance * cost / BUDGET))
            for unit, cost in costs.items()
        },
    )


def _inner(left: Array, right: Array) -> Array:
    return (left * right).sum(axis=1)


def _at_best_rate(along: Array, size: Array) -> Array:
    """1 - s^2 / (power + noise), see :class:`rlcredit.bench.compare.ErrorAtBudget`."""
    ahead = np.square(np.maximum(along, 0))
    return 1 - np.divide(ahead, size, out=np.zeros_like(size), where=size > 0)
