from dataclasses import replace

import pytest
import torch

from rlcredit.credit.diversity import cosine_kernel, marginal_diversity
from rlcredit.estimators import GRPO, OSPO, LeaveOneOut, SetPO, Weighted
from tests.strategies import make_signals

SETPO = SetPO(base=GRPO(), coef=0.5)


def test_the_bonus_is_added_raw_to_right_and_wrong_responses_alike():
    signals = make_signals(SETPO.needs, dtype=torch.float64)
    base = GRPO()(signals).values
    bonus = 0.5 * marginal_diversity(cosine_kernel(signals.embeddings))
    mask = signals.response_mask
    expected = base + torch.where(mask, bonus.unsqueeze(-1), 0)
    assert torch.equal(SETPO(signals).values, expected)


def test_a_weight_of_zero_is_the_base_bit_for_bit():
    signals = make_signals(SETPO.needs)
    assert torch.equal(replace(SETPO, coef=0.0)(signals).values, GRPO()(signals).values)


def test_in_a_group_of_equal_rewards_the_bonus_is_all_there_is():
    signals = make_signals(SETPO.needs, dtype=torch.float64)
    equal = replace(signals, rewards=torch.ones_like(signals.rewards))
    bonus = 0.5 * marginal_diversity(cosine_kernel(signals.embeddings))
    advantages = SETPO(equal)
    assert torch.equal(advantages.values[:, :, 0], bonus)
    assert "credit/diversity_to_base" not in advantages.metrics, "a ratio to nothing is no number"
    assert advantages.metrics["credit/diversity_rms"] > 0


def test_it_needs_what_its_base_needs_and_wraps_itself_too():
    base = OSPO(value=LeaveOneOut(), construction=Weighted())
    nested = SetPO(base=SetPO(base=base, coef=0.1), coef=0.2)
    assert nested.needs.embeddings
    assert nested.needs.coalitions == base.needs.coalitions
    assert nested.needs.first_copies
    assert nested.needs.skips_equal_groups
    signals = make_signals(nested.needs, dtype=torch.float64)
    once = SetPO(base=base, coef=0.3)(signals)
    torch.testing.assert_close(nested(signals).values, once.values)
    assert once.credit is not None


def test_the_bonus_is_reported_beside_the_base():
    signals = make_signals(SETPO.needs, dtype=torch.float64)
    metrics = SETPO(signals).metrics
    mask = signals.response_mask
    base = GRPO()(signals).values[mask]
    bonus = SETPO(signals).values[mask] - base
    rms = bonus.square().mean().sqrt()
    assert metrics["credit/diversity_rms"].item() == pytest.approx(rms.item())
    ratio = rms / base.square().mean().sqrt()
    assert metrics["credit/diversity_to_base"].item() == pytest.approx(ratio.item())


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="coef is -1"):
        SetPO(base=GRPO(), coef=-1.0)
