"""Estimated gradients against the exact one: bias, variance, error, and what is climbed.

Everything quadratic in a mean is estimated from two halves of the replicates, <a, b> in place of
<m, m>: the noise of one half is independent of the other's, so no noise is taken for bias. The
halves are drawn again apart from each other, which keeps that true of the intervals.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlcredit.report.stats import LEVEL, SEED, Interval

RESAMPLES = 200
BUDGET = 1000
"""Samples, or reward evaluations, at which errors are compared."""

RESOLVED = 0.2
"""A bias that may be larger than this is not called none, whatever its interval."""

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An estimator's gradient, in its loss's unit, beside the exact one."""

    scale: Interval
    """Length along the true gradient: 1 is right, below 0 descends."""
    cosine: Interval | None
    """Of the expected gradient with the true one; None where noise hides its length."""
    bias: Interval
    """Length of (expected - true) over that of the true gradient."""
    power: float
    """Length squared of the expected gradient over that of the true one."""
    variance: float
    """Of one replicate's gradient, summed over parameters, over the true one's length squared."""
    samples: int
    """Responses of a replicate."""
    evaluations: float
    """Rewards asked for, of a replicate."""
    climbs: str
    """The objective whose gradient is nearest: the first of those that noise does not tell apart;
    empty where noise hides the direction."""
    tied: tuple[str, ...]
    """The others of those."""
    cosines: Mapping[str, float]
    """With the gradient of every objective."""

    @property
    def unbiased(self) -> bool:
        """The interval of the bias reaches 0, and noise does not hide much of one."""
        return self.bias.low == 0.0 and (self.bias.high or 0.0) < RESOLVED

    def error(self, cost: int | float) -> float:
        """Mean squared error over the true gradient's length squared, for 1000 units of a cost."""
        return self.bias.mean**2 + self.variance * cost / BUDGET

    def error_at_best_rate(self, cost: int | float) -> float:
        """The same, were the gradient multiplied by the number that makes it least.

        1 - s^2 / (power + variance cost / 1000): a learning rate takes up the length, and what is
        left is direction and noise. Derived here, from min over c of |c E g - t|^2 + c^2 var.
        """
        size = self.power + self.variance * cost / BUDGET
        return 1 - max(self.scale.mean, 0.0) ** 2 / size if size > 0 else 1.0


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


def compare(
    gradients: Array,
    target: Array,
    objectives: Mapping[str, Array],
    resampler: Resampler,
    *,
    control: Array | None,
    samples: int,
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
    scale = middle @ target / length
    square = ((a - target) * (b - target)).sum(axis=1) / length
    power = (a * b).sum(axis=1) / length
    cosines, seen = _cosines(middle, power * length, objectives)
    names = list(objectives)
    climbs, tied = _nearest(cosines, names) if seen else ("", ())
    return Comparison(
        scale=interval(scale),
        cosine=interval(cosines[:, 0]) if seen else None,
        bias=interval(np.sqrt(np.maximum(square, 0))),
        power=float(max(power[0], 0)),
        variance=float(gradients.var(axis=0, ddof=1).sum() / length),
        samples=samples,
        evaluations=evaluations,
        climbs=climbs,
        tied=tied,
        cosines=dict(zip(names, cosines[0].tolist(), strict=True)) if seen else {},
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
"""Where every cosine is negative."""
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


def interval(values: Array) -> Interval:
    """The sample's own figure, and a percentile interval of its resamples."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return Interval(mean=float(values[0]), low=float(low), high=float(high))
