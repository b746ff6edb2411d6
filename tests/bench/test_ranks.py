"""Rank correlations: against scipy, and what they say of estimators whose credit is known."""

import numpy as np
import pytest
import torch
from scipy import stats

from rlcredit.bench.compare import Resampler
from rlcredit.bench.draw import Draw
from rlcredit.bench.exact import truth
from rlcredit.bench.gradients import Stage
from rlcredit.bench.ranks import agreement, rank_correlation
from rlcredit.bench.worlds import worlds
from rlcredit.types import Randomness
from tests.composing import built

WORLDS = {world.name: world for world in worlds()}
REPLICATES = 60


def test_rank_correlation_is_spearmans_with_ties_and_padding():
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 4, (2, 30, 7)).astype(float)
    mask = torch.arange(7) < torch.from_numpy(rng.integers(3, 8, (30, 1)))
    found = rank_correlation(torch.from_numpy(left), torch.from_numpy(right), mask)
    for row in range(30):
        count = int(mask[row].sum())
        a, b = left[row, :count], right[row, :count]
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        expected = 0.0 if constant else stats.spearmanr(a, b).statistic
        assert found[row].item() == pytest.approx(expected)


def stage(name):
    world = WORLDS[name]
    drawn = Draw.of(
        world,
        world.parameters,
        replicates=REPLICATES,
        group_size=6,
        randomness=Randomness(seed=0, step=0),
    )
    return Stage(draw=drawn, sampler=world.parameters, parameters=world.parameters)


def agreed(name, estimator):
    here, method = stage(name), built("estimator", estimator)
    values = method(here.draw.signals(method.needs)[0]).values
    return agreement(values, here, truth(here.world), Resampler(REPLICATES))


def test_a_method_orders_words_as_the_value_that_it_computes():
    found = agreed("redundant", "loo")
    assert found.leave_one_out.mean > 0.95  # groups of equal rewards get no credit
    assert agreed("complements", "ospo").myerson.mean > 0.99
    shape = agreed("candidates", "shape")
    assert shape.shapley.mean == pytest.approx(1)
    assert shape.leave_one_out.mean < 0.95


def test_random_credit_orders_nothing_and_rollout_credit_says_nothing_about_words():
    found = agreed("additive", "random_credit")
    assert abs(found.shapley.mean) < 0.15
    assert not found.shapley.excludes_zero
    found = agreed("additive", "grpo")
    assert (found.shapley, found.leave_one_out) == (None, None)
    assert found.choices.mean > 0.2


def test_true_choice_values_agree_with_themselves():
    here = stage("harmful")
    found = agreement(here.action_advantages, here, truth(here.world), Resampler(REPLICATES))
    assert found.choices.mean == pytest.approx(1)
    assert found.choices.low == pytest.approx(1)
