"""Figures against a second estimate come out as those against the truth would."""

import numpy as np
import pytest

from rlcredit.bench.compare import BUDGET, Resampler
from rlcredit.bench.sampled import compare_sampled

DIMENSIONS, REPLICATES = 40, 400
TRUTH = np.arange(DIMENSIONS) / np.linalg.norm(np.arange(DIMENSIONS))


def draws(mean, noise, seed):
    """Replicates about a mean; noise is the root of the variance summed over coordinates."""
    rng = np.random.default_rng(seed)
    return mean + noise / DIMENSIONS**0.5 * rng.normal(size=(REPLICATES, DIMENSIONS))


def compared(gradients, reference, **costs):
    return compare_sampled(
        gradients, reference, Resampler(REPLICATES), costs={"responses": 8.0, **costs}
    )


def test_an_unbiased_estimator_with_noise_of_its_own_has_no_bias():
    found = compared(draws(TRUTH, 2.0, 0), draws(TRUTH, 2.0, 1))
    assert found.bias.low == 0.0
    assert found.bias.mean < 0.2
    assert found.scale.low < 1 < found.scale.high
    assert found.variance.mean == pytest.approx(4.0, rel=0.1)


def test_a_bias_is_found_in_length_and_in_direction():
    aside = np.zeros(DIMENSIONS)
    aside[0] = 1.0  # at a right angle to the truth, whose first entry is 0
    found = compared(draws(2 * TRUTH + aside, 1.0, 0), draws(TRUTH, 1.0, 1))
    assert found.scale.mean == pytest.approx(2, abs=0.15)
    assert found.cosine.mean == pytest.approx(2 / 5**0.5, abs=0.05)
    assert found.bias.mean == pytest.approx(2**0.5, abs=0.15)


def test_shared_noise_is_not_taken_for_agreement():
    """Of the same replicates, the noise of both is the same; halves keep it out of the lengths."""
    reference = draws(TRUTH, 3.0, 5)
    found = compared(reference * 7 / 8, reference)
    assert found.scale.mean == pytest.approx(7 / 8)
    assert found.bias.mean == pytest.approx(1 / 8)
    assert found.cosine.mean == pytest.approx(1)


def test_the_error_at_the_best_rate_is_what_a_search_over_rates_finds():
    found = compared(draws(2 * TRUTH, 3.0, 0), draws(TRUTH, 1.0, 1), seconds=2.0)
    for unit, cost in (("responses", 8.0), ("seconds", 2.0)):
        noise = 9.0 * cost / BUDGET
        rates = np.linspace(0, 1, 2001)
        wanted = ((2 * rates - 1) ** 2 + rates**2 * noise).min()
        assert found.errors[unit].mean == pytest.approx(wanted, abs=0.05)


def test_pure_noise_is_no_use_and_too_few_replicates_are_refused():
    found = compared(draws(0 * TRUTH, 1.0, 0), draws(TRUTH, 1.0, 1))
    assert found.errors["responses"].mean > 0.8
    with pytest.raises(ValueError, match="do not tell the true gradient from noise"):
        compared(draws(TRUTH, 1.0, 0), draws(0 * TRUTH, 30.0, 1))
