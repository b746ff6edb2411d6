"""A sampler that is not quite the policy: measured, corrected, or refused."""

from copy import deepcopy
from dataclasses import dataclass, field, replace

import pytest
import torch

from rlcredit.credit.ratio import Cut, Unit
from rlcredit.losses.lpo import LPO
from rlcredit.losses.surrogate import ClippedSurrogate, Ratio
from rlcredit.rollout.hf import HFRollout
from rlcredit.trainer.mismatch import Mismatch, MismatchError, mismatch_metrics
from rlcredit.types import UpdateBatch
from tests.trainer.test_loop import fresh_policy, trainer, weights

__all__ = ["fresh_policy"]  # a fixture
FREE = Mismatch(max_kl=None)


@dataclass(frozen=True, kw_only=True)
class Stale(HFRollout):
    """Samples from the policy as it was when the engine was made, with noise on its weights."""

    max_new_tokens: int = 6
    policy: object = field(repr=False)

    def __call__(self, policy, prompts, **settings):
        return super().__call__(self.policy, prompts, **settings)


def stale(policy, noise):
    old, generator = deepcopy(policy), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in old.model.parameters():
            p.add_(noise * torch.randn(p.shape, generator=generator))
    return Stale(policy=old)


def test_the_policy_s_own_samples_match_and_a_correction_changes_nothing(fresh_policy):
    """In float64, where Adam's first step, lr g / (|g| + 1e-8), makes of an error of 1e-16 in a
    gradient at most 2e-11; in float32 the last bit of a gradient near 0 can turn the step round."""
    plain, corrected = fresh_policy(), fresh_policy()
    for policy in (plain, corrected):
        policy.model.double()
    result = trainer(plain).step(1)
    assert result.metrics["mismatch/max_abs_logprob"] < 1e-12
    assert result.metrics["mismatch/kl_nats"] < 1e-12
    assert result.metrics["mismatch/effective_share"] == pytest.approx(1, abs=1e-12)
    made = trainer(corrected, mismatch=Mismatch(correction=Cut.truncate))
    other = made.step(1)
    assert other.metrics["mismatch/mean_weight"] == pytest.approx(1, abs=1e-12)
    norms = [step.metrics["train/grad_norm"] for step in (other, result)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-9)  # Adam's step forgets its length
    torch.testing.assert_close(weights(corrected), weights(plain), rtol=0, atol=1e-9)


def test_a_sampler_far_from_the_policy_stops_the_run_before_the_optimizer_steps(fresh_policy):
    policy = fresh_policy()
    before = weights(policy)
    made = trainer(policy)
    made.rollout = stale(policy, 0.3)
    with pytest.raises(MismatchError, match=r"step 3: .* nats per token .*max_kl=0\.1.*stale"):
        made.step(3)
    assert torch.equal(weights(policy), before)
    made.settings = replace(made.settings, mismatch=FREE)
    result = made.step(3)
    assert result.metrics["mismatch/kl_nats"] > 0.1
    assert result.metrics["mismatch/effective_share"] < 0.9
    assert result.metrics["loss/clip_fraction"] == 0  # ratios are to the policy's own log-probs
    assert not torch.equal(weights(policy), before)


def test_a_correction_reaches_the_update_and_is_reported(fresh_policy):
    moved = {}
    for cut in (None, *Cut):
        policy = fresh_policy()
        made = trainer(policy, mismatch=Mismatch(correction=cut, max_weight=1.2, max_kl=None))
        made.rollout = stale(policy, 0.3)
        result = made.step(3)
        moved[cut] = weights(policy)
        if cut is not None:
            assert 0 < result.metrics["mismatch/limited_share"] < 1
            assert result.metrics["mismatch/mean_weight"] != 1
    assert len({tuple(found.tolist()) for found in moved.values()}) == 3


def batch_of(pi, mu, advantage, token):
    """One rollout of one token."""
    return UpdateBatch(
        advantages=torch.full((1, 1, 1), advantage, dtype=torch.float64),
        response_mask=torch.ones(1, 1, 1, dtype=torch.bool),
        old_logprobs=pi[token].log().view(1, 1, 1),
        rollout_logprobs=mu[token].log().view(1, 1, 1),
        num_tokens=1,
        num_rollouts=1,
        num_prompts=1,
    )


@pytest.mark.parametrize("unit", list(Unit))
def test_under_the_sampler_the_corrected_gradient_is_that_of_the_policy(unit):
    """Exactly, by enumeration; without the correction it is another one."""
    logits = torch.tensor([0.3, -0.5, 1.1, 0.0], dtype=torch.float64, requires_grad=True)
    pi, credit = logits.softmax(0), (1.0, -2.0, 0.5, 3.0)
    mu = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    loss = ClippedSurrogate()
    corrected = Mismatch(correction=Cut.truncate, unit=unit, max_weight=100.0).corrected(loss)

    def expected(used, drawn_from):
        total = torch.zeros((), dtype=torch.float64)
        for token, advantage in enumerate(credit):
            logprobs = logits.log_softmax(0)[token].view(1, 1, 1)
            out = used(logprobs, batch_of(pi.detach(), mu, advantage, token))
            total = total + drawn_from[token].detach() * out.value
        return torch.autograd.grad(total, logits)[0]

    on_policy = expected(loss, pi)
    torch.testing.assert_close(expected(corrected, mu), on_policy)
    assert (expected(loss, mu) - on_policy).abs().max() > 0.05


def test_the_metrics_by_hand():
    pi = torch.tensor([0.5, 0.5], dtype=torch.float64)
    mu = torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = mismatch_metrics(pi[0].log().view(1, 1, 1), batch_of(pi, mu, 1.0, 0))
    log2 = torch.tensor(2.0, dtype=torch.float64).log()
    assert found["mismatch/max_abs_logprob"].item() == pytest.approx(log2.item())
    assert found["mismatch/kl_nats"].item() == pytest.approx(2 - 1 - log2.item())
    assert found["mismatch/effective_share"].item() == 1


def test_losses_that_cannot_be_weighed_are_refused():
    with pytest.raises(ValueError, match=r"LPO.*logits of a target.*loss=dapo"):
        Mismatch(correction=Cut.truncate).corrected(LPO())
    gspo = ClippedSurrogate(ratio=Ratio.sequence)
    with pytest.raises(ValueError, match=r"mismatch\.unit=sequence"):
        Mismatch(correction=Cut.mask).corrected(gspo)
    made = Mismatch(correction=Cut.mask, unit=Unit.sequence).corrected(gspo)
    assert (made.takes_tokens, made.couples_group, made.needs) == (False, False, gspo.needs)
    assert Mismatch().corrected(gspo) is gspo


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_weight": 0.5}, "max_weight=0.5 must be 1 or more"),
        ({"max_kl": 0.0}, "max_kl=0.0 must be positive"),
        ({"max_kl": float("nan")}, "max_kl=nan"),
    ],
)
def test_limits_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        Mismatch(**settings)
