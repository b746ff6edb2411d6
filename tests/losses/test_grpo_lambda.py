"""GRPO-lambda: traces in place of token ratios, its control, and the flag of S-trace."""

from dataclasses import replace

import pytest
import torch

from rlcredit.credit.trace import over_mean, trace_weights
from rlcredit.losses import ClippedSurrogate, TokenWeighted
from rlcredit.losses.surrogate import Aggregation, Objective, Ratio
from tests.composing import built
from tests.strategies import make_batch

MEAN = Aggregation.sequence_mean
GRPO_LAMBDA = ClippedSurrogate(ratio=Ratio.trace, decay=0.99, aggregation=MEAN)


def example():
    return make_batch(num_tokens=9, constant=True)


def gradient(loss, logprobs, batch):
    leaf = logprobs.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, batch).value, leaf)[0]


def test_the_preset_is_that_of_ospo_s_release():
    assert built("loss", "grpo_lambda") == GRPO_LAMBDA
    control = built("loss", "position_weights")
    assert control == TokenWeighted(loss=built("loss", "grpo"), position_decay=0.99)


def test_without_decay_it_is_grpo_to_the_last_bit():
    logprobs, batch = example()
    found = replace(GRPO_LAMBDA, decay=0.0)(logprobs, batch)
    expected = ClippedSurrogate(aggregation=MEAN)(logprobs, batch)
    assert torch.equal(found.value, expected.value)
    mine, theirs = (
        gradient(loss, logprobs, batch)
        for loss in (replace(GRPO_LAMBDA, decay=0.0), ClippedSurrogate(aggregation=MEAN))
    )
    assert torch.equal(mine, theirs)


def test_off_policy_it_is_the_clipped_surrogate_of_decayed_sums():
    logprobs, batch = example()
    loss = replace(GRPO_LAMBDA, decay=0.6)
    total = 0.0
    for p in range(3):
        for g in range(4):
            count = int(batch.response_mask[p, g].sum())
            carried, own = 0.0, 0.0
            for t in range(count):
                step = (logprobs - batch.old_logprobs)[p, g, t].item()
                carried = step + 0.6 * carried
                ratio = torch.tensor(carried, dtype=torch.float64).exp().item()
                advantage = batch.advantages[p, g, t].item()
                own += -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)
            total += own / count / 12
    assert loss(logprobs, batch).value.item() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("decay", [0.5, 0.99, 1.0])
def test_on_policy_it_is_its_control_which_weighs_places(decay, unit):
    _, batch = example()
    loss = replace(GRPO_LAMBDA, decay=decay, unit_weights=unit)
    control = TokenWeighted(
        loss=ClippedSurrogate(aggregation=MEAN), position_decay=decay, unit_weights=unit
    )
    start, mask = batch.old_logprobs, batch.response_mask
    found = gradient(loss, start, batch)
    torch.testing.assert_close(found, gradient(control, start, batch), rtol=0, atol=1e-12)
    weights = trace_weights(mask, decay=decay)
    weights = over_mean(weights, mask) if unit else weights
    plain = gradient(ClippedSurrogate(aggregation=MEAN), start, batch)
    torch.testing.assert_close(found, weights * plain, rtol=0, atol=1e-12)
    assert (found - plain).abs().max() > 1e-3


def test_off_policy_it_is_not_its_control():
    logprobs, batch = example()
    control = TokenWeighted(loss=ClippedSurrogate(aggregation=MEAN), position_decay=0.99)
    gap = gradient(GRPO_LAMBDA, logprobs, batch) - gradient(control, logprobs, batch)
    assert gap.abs().max() > 1e-3


def test_s_trace_leaves_tokens_of_low_entropy_out_of_every_trace():
    logprobs, batch = example()
    sparse = replace(GRPO_LAMBDA, traced_share=0.3)
    kept = batch.response_mask & (batch.entropy_rank <= 0.3)
    assert 0.25 < kept.sum() / batch.response_mask.sum() < 0.36
    found = gradient(sparse, batch.old_logprobs, batch)
    assert (found[~kept] == 0).all()
    dense = gradient(GRPO_LAMBDA, batch.old_logprobs, batch)
    torch.testing.assert_close(found[kept], dense[kept], rtol=0, atol=1e-12)
    moved = torch.where(kept, logprobs, logprobs + 1.0)  # what is not traced changes nothing
    assert torch.equal(sparse(moved, batch).value, sparse(logprobs, batch).value)
    everything = replace(GRPO_LAMBDA, traced_share=1.0)
    assert torch.equal(everything(logprobs, batch).value, GRPO_LAMBDA(logprobs, batch).value)
    assert sparse.needs.entropy_rank
    with pytest.raises(ValueError, match="entropy_rank"):
        sparse(logprobs, replace(batch, entropy_rank=None))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ratio": Ratio.trace}, r"decay is None"),
        ({"ratio": Ratio.trace, "decay": 1.1}, r"use loss\.decay=0\.99"),
        ({"decay": 0.9}, "loss=grpo_lambda"),
        ({"unit_weights": True}, "loss=grpo_lambda"),
        ({"traced_share": 0.2}, "loss=grpo_lambda"),
        ({"ratio": Ratio.trace, "decay": 0.9, "traced_share": 0.0}, "traced_share is 0.0"),
        ({"ratio": Ratio.trace, "decay": 0.9, "objective": Objective.cispo}, "objective=clipped"),
    ],
)
def test_settings_that_contradict_one_another_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        ClippedSurrogate(**settings)
