"""Intervals cover what they should, are reproducible, and do not fail on constants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rlcredit.evaluation.stats import (
    Interval,
    family_interval,
    mean_interval,
    paired_interval,
)

FINITE = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))


def test_the_interval_of_normal_values_is_near_student_s():
    values = np.random.default_rng(0).normal(0.3, 0.2, 200)
    found = mean_interval(values)
    half = 1.972 * values.std(ddof=1) / np.sqrt(200)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)
    assert found.excludes_zero


def test_nineteen_of_twenty_intervals_cover_the_mean():
    rng = np.random.default_rng(1)
    draws = rng.gamma(2.0, size=(300, 40))
    covered = [i.low <= 2.0 <= i.high for i in map(mean_interval, draws)]
    assert 0.90 <= np.mean(covered) <= 0.98


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(2).random(30)
    assert mean_interval(values) == mean_interval(values.copy())


def test_equal_values_have_an_interval_of_width_zero():
    found = mean_interval(np.full(7, 0.1))
    assert found.mean == pytest.approx(0.1, abs=1e-15)
    assert found.low == found.mean == found.high
    assert not mean_interval(np.zeros(7)).excludes_zero


def test_one_value_has_no_interval_and_excludes_nothing():
    assert mean_interval(np.array([0.5])) == Interval(mean=0.5, low=None, high=None)
    assert not mean_interval(np.array([0.5])).excludes_zero


@settings(deadline=None, max_examples=60)
@given(st.lists(FINITE, min_size=2, max_size=12))
def test_every_sample_has_finite_ordered_bounds_within_its_range(values):
    found = mean_interval(np.array(values))
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_a_paired_difference_is_narrower_than_the_two_means_suggest():
    rng = np.random.default_rng(3)
    difficulty = rng.random(100)
    before, after = difficulty, difficulty + 0.05 + 0.01 * rng.normal(size=100)
    paired = paired_interval(after, before)
    assert paired.mean == pytest.approx((after - before).mean())
    assert paired.excludes_zero
    assert not mean_interval(before).high < mean_interval(after).low


def test_a_constant_difference_is_exact():
    before = np.arange(5.0)
    assert paired_interval(before + 0.25, before) == Interval(mean=0.25, low=0.25, high=0.25)


def test_differences_that_are_equal_but_for_rounding_have_no_width():
    before = np.random.default_rng(4).random(40) / 2
    found = paired_interval(before + 0.125, before)
    assert np.ptp(before + 0.125 - before) > 0
    assert found.low == found.mean == found.high == pytest.approx(0.125, abs=1e-12)


def test_unpaired_missing_and_undefined_values_are_refused():
    with pytest.raises(ValueError, match="3 values after for 2 before"):
        paired_interval(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval(np.zeros(0))
    with pytest.raises(ValueError, match=r"not shape \(2, 3\)"):
        mean_interval(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="finite"):
        mean_interval(np.array([0.0, np.nan]))


DRAWS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "t3": lambda rng, size: rng.standard_t(3, size=size),
    "gamma(4)": lambda rng, size: rng.gamma(4, size=size) - 4,
}


def covered(draw, *, families, of_each, within, seed=0, trials=4000, known=True):
    """Share of intervals that hold the true mean, 0; ``within`` is the correlation in a family."""
    rng, hits = np.random.default_rng(seed), 0
    numbers = np.repeat(np.arange(families), of_each)
    for _ in range(trials):
        common = np.repeat(draw(rng, families), of_each)
        values = np.sqrt(within) * common + np.sqrt(1 - within) * draw(rng, families * of_each)
        found = family_interval(values, numbers if known else np.arange(len(values)))
        hits += found.low <= 0 <= found.high
    return hits / trials


@pytest.mark.parametrize("name", DRAWS)
def test_intervals_over_families_cover_what_they_promise(name):
    """Its standard error over 4,000 trials is .004: .93 is three of them below .942."""
    shape = {"families": 32, "of_each": 5, "within": 0.82}
    assert covered(DRAWS[name], **shape) > 0.93
    assert covered(DRAWS[name], **shape, known=False, trials=1000) < 0.70


@pytest.mark.parametrize("size", [3, 5, 10])
@pytest.mark.parametrize("name", DRAWS)
def test_few_families_are_covered_too(name, size):
    assert covered(DRAWS[name], families=size, of_each=1, within=1.0) > 0.93


def test_families_of_one_are_student_s_interval_and_one_family_says_nothing():
    values = np.random.default_rng(1).normal(size=12)
    found = family_interval(values, np.arange(12))
    low, high = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high))
    alone = mean_interval(values, np.zeros(12, dtype=np.int64))
    assert (alone.low, alone.high) == (None, None)
    assert mean_interval(values, np.arange(12)) == mean_interval(values)
