"""Expected gradients by enumeration, against the true policy gradient."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from rlcredit.credit.group import Scale
from rlcredit.credit.prefix import judged_segment
from rlcredit.estimators import Prefix
from tests.composing import built, names
from tests.estimators.toy import END, LETTER, Toy

BIAS = {
    # name: cosine with the true gradient, largest component of the difference.
    "dr_grpo": (1.0, 0.029966),
    "grpo": (0.983739, 0.033566),
    "loo": (0.983524, 0.047785),
    "lpo": (0.983739, 0.033566),
    "lpo_reverse": (0.983739, 0.033566),
    "maxrl": (0.974508, 0.071027),
    "ospo": (0.985206, 0.038591),
    "ospo_owen": (0.985206, 0.038591),
    "ospo_rank": (0.985033, 0.037118),
    "ospo_released": (0.854435, 0.066385),
    "otb": (1.0, 0.0),
    "otb_released": (0.953995, 0.036453),
    "prefix": (0.979920, 0.127063),
    "random_credit": (0.984309, 0.037157),
    "rloo": (1.0, 0.0),
    "scar": (0.981493, 0.127063),
    "vine": (1.0, 0.0),
}
NOT_OF_THIS_TOY = {"maxk", "setpo", "shape", "shape_loo", "winner_takes_all"}
"""They need candidates, embeddings, or larger groups than pairs."""


@cache
def toy():
    return Toy(seed=0)


def played(estimator):
    plan = estimator.needs.coalitions or Prefix().needs.coalitions
    return toy().signals(plan, first_copies=estimator.needs.first_copies)


def test_the_toy_is_what_it_says():
    assert len(toy().all) == 63
    assert toy().chance.sum().item() == pytest.approx(1)
    lengths = {len(response) for response in toy().all}
    assert lengths == {1, 2, 3, 4, 5}
    assert {len(toy().words(response)) for response in toy().all} == {0, 1, 2, 3}
    # The end is a choice everywhere, at the same states as a letter.
    ended = {r[:-1] for r in toy().all if r[-1] == END}
    went_on = {r[:t] for r in toy().all for t in range(len(r)) if r[t] == LETTER}
    assert ended == went_on


def test_raw_prefix_credit_has_the_true_gradient():
    estimator = Prefix(scale=Scale.none)
    signals, pairs = played(estimator)
    found = toy().expected(estimator(signals).credit, pairs)
    torch.testing.assert_close(found, toy().gradient(), rtol=0, atol=1e-9)
    # It is not the reward in disguise.
    assert (estimator(signals).credit - signals.rewards.unsqueeze(-1)).abs().max() > 0.1


def test_so_it_has_with_the_siblings_mean_taken_off():
    estimator = Prefix(scale=Scale.none)
    signals, pairs = played(estimator)
    found = toy().expected(estimator(signals).values, pairs)
    torch.testing.assert_close(found, toy().gradient(), rtol=0, atol=1e-9)


def test_a_baseline_that_knows_the_token_it_judges_would_be_biased():
    estimator = Prefix(scale=Scale.none)
    signals, pairs = played(estimator)
    credit = estimator(signals).credit
    # Judge each token by the last segment begun, itself included: an end behind a comma then has
    # another baseline than a letter in its place.
    ids = signals.segments.ids
    begun = torch.where(ids >= 0, ids, ids.cummax(dim=-1).values).clamp(min=0)
    by_segment = torch.zeros(*pairs.shape, 4, dtype=credit.dtype)
    place = judged_segment(ids, signals.response_mask)
    by_segment.scatter_(-1, place, credit)
    wrong = torch.where(signals.response_mask, by_segment.gather(-1, begun), 0)
    gap = (toy().expected(wrong, pairs) - toy().gradient()).abs().max()
    assert gap > 1e-3


def test_the_groups_own_mean_would_be_biased():
    estimator = Prefix(scale=Scale.none)
    signals, pairs = played(estimator)
    to_go = estimator(signals)
    # Siblings' mean Q_j, own mean (Q_i + Q_j) / 2: the latter halves the advantage.
    own = (toy().expected(to_go.values / 2, pairs) - toy().gradient()).abs().max()
    assert own > 1e-2


@pytest.mark.parametrize("name", names("estimator"))
def test_the_bias_of_every_arm_is_on_record(name):
    if name in NOT_OF_THIS_TOY:
        pytest.skip("not of this toy")
    estimator = built("estimator", name)
    signals, pairs = played(estimator)
    found, true = toy().expected(estimator(signals).values, pairs), toy().gradient()
    cosine = torch.nn.functional.cosine_similarity(found, true, dim=0).item()
    gap = (found - true).abs().max().item()
    assert (cosine, gap) == pytest.approx(BIAS[name], abs=2e-6)


def test_it_is_exact_on_other_toys_too():
    for seed in (1, 2):
        other = Toy(seed=seed)
        estimator = Prefix(scale=Scale.none)
        signals, pairs = other.signals(estimator.needs.coalitions)
        found = other.expected(estimator(signals).values, pairs)
        torch.testing.assert_close(found, other.gradient(), rtol=0, atol=1e-9)


def test_scaling_by_the_std_is_what_biases_it():
    scaled = replace(Prefix(scale=Scale.none), scale=Scale.std)
    signals, pairs = played(scaled)
    found = toy().expected(scaled(signals).values, pairs)
    assert (found - toy().gradient()).abs().max() > 0.1
