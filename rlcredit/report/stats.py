"""Means with bootstrap intervals; the prompt is the unit that is drawn again."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
RESAMPLES = 9999
ROUNDING = 1e-12
"""Values closer than this are equal; what is left of rounding must not be divided by itself."""
SEED = 20251117
"""Of the resampling, so that an interval is a function of the values alone."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval.

    The bounds are None where a single value leaves nothing to draw from.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def mean_interval(values: NDArray[np.float64]) -> Interval:
    """The mean over prompts, with a BCa bootstrap interval.

    Bias-corrected and accelerated (Efron 1987, doi:10.1080/01621459.1987.10478410); the percentile
    interval where that is not defined. Equal values have an interval of width 0.

    Args:
        values: [P], one per prompt.

    Raises:
        ValueError: If there is no value, or one is not finite.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"a mean over prompts needs at least one value, not shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a mean over prompts needs finite values; leave undefined prompts out")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean=mean, low=None, high=None)
    if np.ptp(values) <= ROUNDING * max(1.0, float(np.abs(values).max())):
        return Interval(mean=mean, low=mean, high=mean)
    low, high = _bootstrap(values, "BCa")
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = _bootstrap(values, "percentile")
    return Interval(mean=mean, low=low, high=high)


def paired_interval(after: NDArray[np.float64], before: NDArray[np.float64]) -> Interval:
    """The mean of ``after - before`` over the same prompts, with its interval.

    Raises:
        ValueError: If the two do not belong to the same number of prompts.
    """
    if after.shape != before.shape:
        raise ValueError(
            f"{len(after)} values after for {len(before)} before: a paired difference needs the "
            "same prompts on both sides"
        )
    return mean_interval(after - before)


def _bootstrap(values: NDArray[np.float64], method: str) -> tuple[float, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (values,),
            np.mean,
            confidence_level=LEVEL,
            n_resamples=RESAMPLES,
            method=method,
            rng=np.random.default_rng(SEED),
            vectorized=True,
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
