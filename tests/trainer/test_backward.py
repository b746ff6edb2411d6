from dataclasses import replace

import pytest
import torch

from rlcredit.credit.entropy import entropy_ranks
from rlcredit.credit.simplex import Divergence
from rlcredit.losses import TokenWeighted
from rlcredit.losses.lpo import LPO, Logit
from rlcredit.losses.surrogate import Aggregation, ClippedSurrogate, Ratio
from rlcredit.policy.packing import Packing
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.warm_start import WarmStart
from rlcredit.rollout.hf import HFRollout
from rlcredit.trainer.backward import accumulate, microbatches
from rlcredit.types import Randomness, UpdateBatch
from tests.policy.toy import toy_prompts, toy_task


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    tiny = Tiny(hidden_size=16, num_layers=2, warm_start=WarmStart(steps=0))
    made = tiny.load(
        toy_task(),
        seed=0,
        cache=tmp_path_factory.mktemp("cache"),
        device=torch.device("cpu"),
        say=print,
    )
    made.model.double()
    return made


@pytest.fixture(scope="module")
def rollouts(policy):
    roll = HFRollout(max_new_tokens=9)
    return roll(policy, toy_prompts()[::7][:3], group_size=4, randomness=Randomness(seed=0, step=1))


@pytest.fixture
def batch(rollouts):
    g = torch.Generator().manual_seed(0)
    mask = rollouts.response_mask
    noise = torch.randn(mask.shape, generator=g, dtype=torch.float64)
    return UpdateBatch(
        advantages=torch.randn(*mask.shape[:2], 1, generator=g).double().expand(mask.shape) * mask,
        response_mask=mask,
        old_logprobs=(rollouts.rollout_logprobs.double() + 0.1 * noise) * mask,
        rollout_logprobs=rollouts.rollout_logprobs,
        ref_logprobs=(rollouts.rollout_logprobs.double() - 0.1 * noise) * mask,
        entropy_rank=entropy_ranks(noise, mask),
        num_tokens=int(mask.sum()),
        num_rollouts=mask.shape[0] * mask.shape[1],
        num_prompts=mask.shape[0],
    )


WHOLE = [slice(0, 12)]
LOSSES = [
    ClippedSurrogate(kl_coef=0.1),
    ClippedSurrogate(aggregation=Aggregation.sequence_mean, clip_low=0.05, clip_high=0.05),
    ClippedSurrogate(ratio=Ratio.trace, decay=0.9, traced_share=0.5, unit_weights=True),
    TokenWeighted(loss=ClippedSurrogate(), top_entropy=0.3, position_decay=0.9),
    LPO(),
    LPO(divergence=Divergence.reverse_kl, logit=Logit.sum),
]
IDS = ["token mean", "sequence mean", "trace", "token weights", "lpo", "lpo reverse"]


def gradient(policy, loss, rollouts, batch, chunks, *, on_policy=False, **options):
    policy.model.zero_grad()
    out = accumulate(policy, loss, rollouts, batch, chunks=chunks, on_policy=on_policy, **options)
    return out, torch.cat([p.grad.flatten() for p in policy.model.parameters()])


@pytest.mark.parametrize("tokens", [1, 40, 70, 150])
@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_every_split_into_microbatches_gives_the_same_gradient(
    policy, rollouts, batch, loss, tokens
):
    whole, want = gradient(policy, loss, rollouts, batch, [slice(0, 12)])
    chunks = microbatches(rollouts, tokens)
    split, got = gradient(policy, loss, rollouts, batch, chunks)
    assert len(chunks) > 1
    assert want.norm() > 1e-3
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    assert split.loss == pytest.approx(whole.loss, rel=1e-9)
    for name, value in whole.metrics.items():
        assert float(split.metrics[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-12)
    torch.testing.assert_close(split.logprobs, whole.logprobs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("tokens", [1, 40, 90, 10_000])
@pytest.mark.parametrize("loss", LOSSES, ids=IDS)
def test_every_split_of_every_packing_gives_the_same_gradient(
    policy, rollouts, batch, loss, tokens
):
    whole, want = gradient(policy.packed(Packing.padded, say=print), loss, rollouts, batch, WHOLE)
    packed = policy.packed(Packing.shared_prefix, say=print)
    chunks = microbatches(rollouts, tokens, packing=packed.packing)
    assert (len(chunks) == 1) == (tokens == 10_000)
    split, got = gradient(packed, loss, rollouts, batch, chunks)
    assert want.norm() > 1e-3
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)
    assert split.loss == pytest.approx(whole.loss, rel=1e-9)
    torch.testing.assert_close(split.logprobs, whole.logprobs, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(split.entropy, whole.entropy, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("loss", LOSSES[::4], ids=["surrogate", "lpo"])
def test_passes_of_weight_zero_and_the_factor_change_no_figure(
    policy, rollouts, batch, loss, packing
):
    packed = policy.packed(packing, say=print)
    calls = []
    chunks = [slice(0, 5), slice(5, 12)]
    plain, want = gradient(packed, loss, rollouts, batch, chunks)
    counting = packed.model.get_decoder().register_forward_pre_hook(lambda *_: calls.append(1))
    filled, got = gradient(packed, loss, rollouts, batch, chunks, num_passes=4, factor=3.0)
    counting.remove()
    assert len(calls) == (8 if loss.couples_group else 4)
    torch.testing.assert_close(got, 3 * want, rtol=1e-12, atol=1e-14)
    assert filled.loss == plain.loss
    assert filled.metrics == plain.metrics
    assert torch.equal(filled.logprobs, plain.logprobs)


@pytest.mark.parametrize("loss", LOSSES[::4], ids=["surrogate", "lpo"])
def test_on_policy_is_what_recomputed_old_logprobs_give(policy, rollouts, batch, loss):
    with torch.no_grad():
        own = policy.logprobs(rollouts).logprobs.view(batch.response_mask.shape)
    recomputed = replace(batch, old_logprobs=own)
    chunks = microbatches(rollouts, 70)
    _, want = gradient(policy, loss, rollouts, recomputed, chunks)
    _, got = gradient(policy, loss, rollouts, batch, chunks, on_policy=True)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


def test_microbatches_cover_every_row_once_within_the_budget(rollouts):
    width = rollouts.prompt_ids.shape[1] + rollouts.response_ids.shape[2]
    chunks = microbatches(rollouts, 3 * width + 1)
    assert [row for chunk in chunks for row in range(12)[chunk]] == list(range(12))
    assert max(chunk.stop - chunk.start for chunk in chunks) == 3
    assert microbatches(rollouts, 1) == [slice(i, i + 1) for i in range(12)]


def test_shared_prompts_are_counted_once_in_each_part(rollouts):
    prompts = rollouts.prompt_mask.sum(1).tolist()
    lengths = rollouts.response_mask.sum(2).flatten().tolist()
    budget = max(prompts) + max(lengths) + 8
    chunks = microbatches(rollouts, budget, packing=Packing.shared_prefix)
    assert [row for chunk in chunks for row in range(12)[chunk]] == list(range(12))
    costs = [
        sum(lengths[c])
        + sum(prompts[p] for p in range(3) if c.start < 4 * p + 4 and c.stop > 4 * p)
        for c in chunks
    ]
    assert max(costs) <= budget
    assert 1 < len(chunks) < 12
    for cost, after in zip(costs, chunks[1:], strict=False):
        prompt = prompts[after.start // 4] if after.start % 4 == 0 else 0
        assert cost + lengths[after.start] + prompt > budget
