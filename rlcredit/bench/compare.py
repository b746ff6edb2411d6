"""Estimated gradients against the exact one: bias, variance, error, and what is climbed.

Lengths of expected gradients are estimated from two halves of the replicates, <a, b> in place of
<m, m>: the noise of one half is independent of the other's, so no noise is taken for bias. The
halves are drawn again apart from each other, which keeps that true of the intervals. All figures
of a resample are of the same replicates, so what is made of several (an error, a median over
worlds, a difference of methods) is resampled as a whole.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlcredit.evaluation.stats import LEVEL, ROUNDING, SEED, Interval

RESAMPLES = 200
BUDGET = 1000
"""Samples, or reward evaluations, at which errors are compared."""

RESOLVED = 0.2
"""A bias that may be larger than this is not called none, whatever its interval."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Resampled(Interval):
    """A figure with its interval, and what that was read from."""

    low: float
    high: float
    values: Array = field(repr=False, compare=False)
    """[1 + resamples]: of the sample itself, then of each resample."""


@dataclass(frozen=True, kw_only=True)
class ErrorAtBudget:
    """Errors of a gradient averaged over what 1000 units of a cost buy, over the true one's."""

    variance: Resampled
    """Summed over parameters, over the true gradient's length squared."""
    error: Resampled
    """Mean squared: bias squared and variance, over the same."""
    at_best_rate: Resampled
    """The error, were the gradient multiplied by the number that makes it least.

    1 - s^2 / (power + variance): a learning rate takes up the length, and what is left is
    direction and noise. Derived here, from min over c of |c E g - t|^2 + c^2 var.
    """


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An estimator's gradient, in its loss's unit, beside the exact one."""

    scale: Resampled
    """Length along the true gradient: 1 is right, below 0 descends."""
    cosine: Resampled | None
    """Cosine of the expected gradient with the true one; None where noise hides its length."""
    bias: Resampled
    """Length of (expected - true) over that of the true gradient."""
    power: Resampled
    """Length squared of the expected gradient over that of the true one."""
    variance: Resampled
    """Variance of one replicate's gradient, summed over parameters, over the true length
    squared."""
    samples: int | float
    """Responses of a replicate, with continuations by their tokens."""
    evaluations: float
    """Rewards asked for, of a replicate."""
    by_samples: ErrorAtBudget
    """Errors with 1000 responses."""
    by_rewards: ErrorAtBudget
    """Errors with 1000 rewards asked for."""
    climbs: str
    """The objective whose gradient is nearest: the first of those that noise does not tell apart;
    empty where noise hides the direction."""
    tied: tuple[str, ...]
    """The others of those."""
    cosines: Mapping[str, float]
    """Cosine with the gradient of every objective."""

    @property
    def unbiased(self) -> bool:
        """The interval of the bias reaches 0, and noise does not hide much of one."""
        return self.bias.low == 0.0 and self.bias.high < RESOLVED


class Resampler:
    """Weights of bootstrap resamples of two halves, drawn once for all methods of a world."""

    def __init__(self, replicates: int) -> None:
        """Draw them; the first row of each half is the sample itself."""
        rng = np.random.default_rng(SEED)
        sizes = replicates // 2, replicates - replicates // 2
        self.weights = [
            np.vstack([np.full(n, 1 / n), rng.multinomial(n, [1 / n] * n, RESAMPLES) / n])
            for n in sizes
        ]

    def means(self, values: Array) -> tuple[Array, Array]:
        """[1 + resamples, D] for each half of [N, D]."""
        first, second = self.weights
        count = first.shape[1]
        return first @ values[:count], second @ values[count:]

    def mean(self, values: Array) -> Array:
        """[1 + resamples, ...] of [N, ...], both halves together."""
        share = self.weights[0].shape[1] / len(values)
        first, second = self.means(values)
        return share * first + (1 - share) * second


def compare(
    gradients: Array,
    target: Array,
    objectives: Mapping[str, Array],
    resampler: Resampler,
    *,
    control: Array | None,
    samples: int | float,
    evaluations: float,
) -> Comparison:
    """All figures of one method in one world.

    Args:
        gradients: [N, D], in the loss's unit.
        target: [D], the gradient of the mean reward.
        objectives: Name -> [D].
        resampler: For N replicates.
        control: [N, D], of the same draws, known to have the target as its mean; None: none is.
        samples: Responses of a replicate.
        evaluations: Rewards of a replicate.
    """
    a, b = resampler.means(_steadied(gradients, control, target))
    length = target @ target
    middle = (a + b) / 2
    scale = interval(middle @ target / length)
    square = ((a - target) * (b - target)).sum(axis=1) / length
    power = (a * b).sum(axis=1) / length
    cosines, seen = _cosines(middle, power * length, objectives)
    names = list(objectives)
    climbs, tied = _nearest(cosines, names) if seen else ("", ())
    bias = interval(np.sqrt(np.maximum(square, 0)))
    length_squared = interval(np.maximum(power, 0))
    variance = interval(variances(gradients, resampler) / length)
    by_samples, by_rewards = (
        _error_at_budget(scale, bias, length_squared, variance, cost)
        for cost in (samples, evaluations)
    )
    return Comparison(
        scale=scale,
        cosine=interval(cosines[:, 0]) if seen else None,
        bias=bias,
        power=length_squared,
        variance=variance,
        samples=samples,
        evaluations=evaluations,
        by_samples=by_samples,
        by_rewards=by_rewards,
        climbs=climbs,
        tied=tied,
        cosines=dict(zip(names, cosines[0].tolist(), strict=True)) if seen else {},
    )


def variances(gradients: Array, resampler: Resampler) -> Array:
    """[1 + resamples]: the unbiased variance of the rows, summed over columns.

    It is the mean of N / (N - 1) |g - mean|^2, and drawn again as a mean is, with the sample's own
    mean in it. Derived here: a resample's own mean would take |mean - mean'|^2 off, which is not of
    the first order and makes the variance of a resample too small by one part in N.
    """
    count = len(gradients)
    apart = np.square(gradients - gradients.mean(axis=0)).sum(axis=1)
    return resampler.mean(apart) * count / (count - 1)


def _error_at_budget(
    scale: Resampled, bias: Resampled, power: Resampled, variance: Resampled, cost: int | float
) -> ErrorAtBudget:
    """Errors of the mean of as many independent replicates as 1000 units of their cost buy."""
    noise = variance.values * cost / BUDGET
    size = power.values + noise
    ahead = np.square(np.maximum(scale.values, 0))
    left = 1 - np.divide(ahead, size, out=np.zeros_like(size), where=size > 0)
    return ErrorAtBudget(
        variance=interval(noise),
        error=interval(np.square(bias.values) + noise),
        at_best_rate=interval(left),
    )


def _steadied(gradients: Array, control: Array | None, target: Array) -> Array:
    """The gradients with what the draws alone explain taken off (a control variate; standard).

    g - beta (h - true), beta = tr cov(g, h) / tr cov(h, h): the mean is the same, the noise less.
    """
    if control is None:
        return gradients
    centred = control - control.mean(axis=0)
    noise = (control * centred).sum()
    if noise == 0:
        return gradients
    return gradients - (gradients * centred).sum() / noise * (control - target)


def _cosines(middle: Array, square: Array, objectives: Mapping[str, Array]) -> tuple[Array, bool]:
    """[1 + resamples, objectives], and whether the direction stands out of the noise."""
    rows = np.stack([each / np.linalg.norm(each) for each in objectives.values()])
    seen = bool(np.quantile(square[1:], (1 - LEVEL) / 2) > 0)
    length = np.sqrt(np.where(square > 0, square, np.inf))
    return np.clip(middle @ rows.T / length[:, None], -1, 1), seen


NOTHING = "none of these"
"""What is written where every cosine is negative."""
TIE = 1e-6
"""Cosines closer than this are one direction."""


def _nearest(cosines: Array, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The first of those that resampling does not tell from the largest cosine, and the others."""
    best = int(cosines[0].argmax())
    if cosines[0, best] <= 0:
        return NOTHING, ()
    gain = cosines[1:] - cosines[1:, [best]]
    near = np.quantile(gain, LEVEL, axis=0) >= -TIE
    near[best] = True
    kept = [name for name, is_near in zip(names, near, strict=True) if is_near]
    return kept[0], tuple(kept[1:])


def interval(values: Array) -> Resampled:
    """The sample's own figure, and a percentile interval of its resamples (standard)."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return Resampled(mean=float(values[0]), low=float(low), high=float(high), values=values)


def median(figures: Sequence[Resampled]) -> Resampled:
    """The median of figures of several worlds, with the interval of that median.

    Worlds are fixed and replicates are drawn again. Resamples have the same weights in every world;
    draws of worlds are independent, so this ties nothing together.
    """
    return interval(np.median(np.stack([figure.values for figure in figures]), axis=0))


def less(left: Resampled, right: Resampled) -> Resampled:
    """One figure less another of the same replicates, in pairs; what rounding leaves is no gap."""
    gap = left.values - right.values
    return interval(np.where(np.abs(gap) > ROUNDING, gap, 0.0))
