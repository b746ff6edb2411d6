"""Intervals, tests and adjustments against numbers known in advance."""

import numpy as np
import pytest

from rlcredit.evaluation.stats import (
    area_under_curve,
    crossed_interval,
    holm,
    interquartile_mean,
    mean_interval,
    paired_permutation,
)


def test_an_interval_over_seeds_and_queries_is_wider_than_over_queries_alone():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(8, 1)) + 0.1 * rng.normal(size=(8, 50))
    both, queries = crossed_interval(scores), mean_interval(scores.mean(0))
    assert both.mean == pytest.approx(queries.mean)
    assert both.high - both.low > 5 * (queries.high - queries.low)


def test_the_crossed_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(40):
        scores = rng.normal(size=(10, 1)) + rng.normal(size=(1, 40)) + rng.normal(size=(10, 40))
        found = crossed_interval(scores)
        hits += found.low <= 0 <= found.high
    assert 32 <= hits <= 40


def test_equal_scores_have_an_interval_of_no_width_and_one_seed_draws_queries():
    found = crossed_interval(np.full((3, 4), 0.5))
    assert (found.low, found.mean, found.high) == (0.5, 0.5, 0.5)
    rounded = crossed_interval(np.array([[0.0, 1e-17], [1e-17, 0.0]]))
    assert rounded.low == rounded.mean == rounded.high
    row = np.arange(10.0)
    assert crossed_interval(row[None]) == mean_interval(row)
    with pytest.raises(ValueError, match="undefined"):
        crossed_interval(np.array([[0.1, np.nan], [0.2, 0.3]]))


def test_the_permutation_test_is_exact_two_sided_and_paired():
    control = np.arange(10.0)
    assert paired_permutation(control + 0.5, control) == pytest.approx(2 / 2**10)
    assert paired_permutation(control - 0.5, control) == pytest.approx(2 / 2**10)
    five = np.arange(5.0)
    assert paired_permutation(five + 0.5, five) == pytest.approx(2 / 2**5)  # never below .05
    assert paired_permutation(control, control) == 1
    with pytest.raises(ValueError, match="same two seeds"):
        paired_permutation(control, control[:9])


def test_holm_multiplies_the_smallest_by_the_number_of_tests():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9, 0.5]) == [1, 1, 1]
    assert holm([]) == []


def test_the_interquartile_mean_leaves_out_the_extremes():
    assert interquartile_mean(np.array([100.0, 1, 2, 3, -100])) == 2
    assert interquartile_mean(np.array([1.0, 2, 3, 4])) is None


def test_the_area_of_a_line_is_its_mean_height():
    assert area_under_curve(np.array([0.0, 10, 30]), np.array([0.0, 1, 3])) == pytest.approx(1.5)
    with pytest.raises(ValueError, match="two points"):
        area_under_curve(np.array([0.0]), np.array([1.0]))
