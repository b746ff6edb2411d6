from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import torch

from rlcredit.credit.group import Scale
from rlcredit.estimators import GRPO
from rlcredit.losses import TokenWeighted
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.vocabulary import Alphabet
from rlcredit.policy.warm_start import WarmStart
from rlcredit.rollout.hf import HFRollout
from rlcredit.run.watch import Watch
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.segmenters import Phrases
from rlcredit.trainer.loop import NonFiniteError, Trainer
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Prompt
from tests.policy.toy import toy_prompts, toy_task


@dataclass(frozen=True)
class Shortness:
    """Shorter texts are better; a reward that differs from response to response."""

    factor: float = 1.0

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([self.factor / (1 + len(text)) for text in texts])


@pytest.fixture(scope="module")
def fresh_policy(tmp_path_factory):
    tiny = Tiny(
        hidden_size=16, num_layers=1, alphabet=Alphabet.bytes, warm_start=WarmStart(steps=0)
    )
    cache = tmp_path_factory.mktemp("cache")
    made = tiny.load(toy_task(), seed=0, cache=cache, device=torch.device("cpu"), say=print)
    return lambda: deepcopy(made)


def trainer(policy, *, loss=None, reward=None, **settings):
    wanted = {"steps": 9, "prompts_per_step": 3, "group_size": 4, "optimizer": AdamW(lr=1e-2)}
    return Trainer(
        settings=TrainerSettings(**(wanted | settings)),
        policy=policy,
        rollout=HFRollout(max_new_tokens=6),
        scorer=Scorer(reward=reward or Shortness(), rules=toy_task().rules, segmenter=Phrases()),
        estimator=GRPO(),
        loss=loss or ClippedSurrogate(),
        prompts=toy_prompts()[:7],
        seed=3,
        reference=deepcopy(policy) if loss is not None and loss.needs.ref_logprobs else None,
    )


def weights(policy):
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()])


def test_prompts_come_in_permutations_of_the_training_set(fresh_policy):
    made = trainer(fresh_policy(), prompts_per_step=3)
    stream = [p.prompt_id for step in range(1, 15) for p in made.batch_prompts(step)]
    epochs = [stream[i : i + 7] for i in range(0, 42, 7)]
    assert all(len(set(epoch)) == 7 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert [p.prompt_id for p in made.batch_prompts(5)] == stream[12:15]


def test_a_step_is_a_function_of_weights_seed_and_number(fresh_policy):
    one, other = fresh_policy(), fresh_policy()
    first, second = trainer(one).step(4), trainer(other).step(4)
    assert first.rollouts.texts == second.rollouts.texts
    assert torch.equal(weights(one), weights(other))
    clocks = {name for name in first.metrics if name.startswith("time/")}
    assert {n: v for n, v in first.metrics.items() if n not in clocks} == {
        n: v for n, v in second.metrics.items() if n not in clocks
    }


def test_the_first_update_of_a_batch_is_on_policy_and_later_ones_are_not(fresh_policy):
    tight = ClippedSurrogate(clip_low=1e-6, clip_high=1e-6)
    loose = ClippedSurrogate(clip_low=0.9, clip_high=9.0)
    for updates in (1, 2):
        moved = []
        for loss in (tight, loose):
            policy = fresh_policy()
            result = trainer(policy, loss=loss, updates_per_batch=updates).step(1)
            assert result.metrics["loss/clip_fraction"] == 0
            moved.append(weights(policy))
        assert torch.equal(*moved) == (updates == 1), "a ratio that is not 1 is clipped by one"


def test_the_divergence_from_the_reference_starts_at_zero_and_grows(fresh_policy):
    made = trainer(fresh_policy(), loss=ClippedSurrogate(kl_coef=0.1))
    divergences = [result.metrics["loss/kl"] for result in made.run()]
    assert divergences[0] == pytest.approx(0, abs=1e-7)
    assert divergences[-1] > 1e-4
    start = trainer(fresh_policy(), loss=ClippedSurrogate(kl_coef=0.1)).step(1)
    mask, own = start.rollouts.response_mask, start.rollouts.rollout_logprobs
    assert start.metrics["text/perplexity"] == pytest.approx(float((-own[mask].mean()).exp()))
    assert "text/perplexity" not in trainer(fresh_policy()).step(1).metrics


def test_the_mask_of_entropies_is_taken_over_the_whole_update_before_its_gradient(fresh_policy):
    loss = TokenWeighted(loss=ClippedSurrogate(), top_entropy=0.3)
    found = []
    for tokens in (16384, 40):
        policy = fresh_policy()
        policy.model.double()
        made = trainer(policy, loss=loss, updates_per_batch=2, tokens_per_microbatch=tokens)
        result = made.step(1)
        assert 0.3 <= result.metrics["loss/kept_share"] < 0.6  # equal entropies are kept together
        found.append(weights(policy))
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-9)


def test_advantages_stay_within_their_limit_and_the_share_is_logged(fresh_policy):
    result = trainer(fresh_policy(), max_advantage=0.5).step(1)
    assert 0 < result.metrics["advantage/clamped_share"] < 1
    free = trainer(fresh_policy()).step(1)
    assert free.metrics["advantage/clamped_share"] == 0


@dataclass(frozen=True)
class Once:
    """One response of a group succeeds: the first that is asked for of each prompt."""

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        names = [prompt.prompt_id for prompt in prompts]
        return torch.tensor([float(names.index(name) == i) for i, name in enumerate(names)])


def test_a_rare_success_keeps_its_advantage_unless_a_limit_is_set(fresh_policy):
    made = trainer(fresh_policy(), reward=Once(), group_size=8)
    made.estimator = GRPO(scale=Scale.mean)
    result = made.step(1)
    first = made.update_batch(result.rollouts, result.advantages).advantages[:, :, 0]
    assert first[0].tolist() == pytest.approx([7.0] + [-1.0] * 7, rel=1e-2)
    torch.testing.assert_close(first.sum(-1), torch.zeros(3), rtol=0, atol=1e-4)
    made.settings = replace(made.settings, max_advantage=4.0)
    limited = made.update_batch(result.rollouts, result.advantages).advantages[:, :, 0]
    assert limited[0].tolist() == pytest.approx([4.0] + [-1.0] * 7, rel=1e-2)


def test_an_update_makes_what_earned_more_more_probable(fresh_policy):
    policy = fresh_policy()
    made = trainer(policy, optimizer=AdamW(lr=1e-3, warmup_steps=0))
    result = made.step(1)
    old = torch.where(result.rollouts.response_mask, result.rollouts.rollout_logprobs, 0)
    with torch.no_grad():
        new = policy.logprobs(result.rollouts).logprobs.view(old.shape)
    moved = ((new - old) * result.advantages.values).sum()
    assert moved > 0.1


def test_half_precision_weights_are_scored_as_they_are_and_not_trained(fresh_policy):
    policy = fresh_policy()
    policy.model.bfloat16()
    assert trainer(policy, steps=0).optimizer.param_groups
    with pytest.raises(ValueError, match=r"trained are torch\.bfloat16.*policy\.dtype=float32"):
        trainer(policy)


@dataclass(frozen=True, kw_only=True)
class Exploding(ClippedSurrogate):
    """A loss whose value overflows."""

    def __call__(self, logprobs, batch):
        out = super().__call__(logprobs, batch)
        return replace(out, value=out.value * torch.inf)


def test_a_loss_that_is_not_finite_stops_before_the_optimizer(fresh_policy):
    policy = fresh_policy()
    before = weights(policy)
    with pytest.raises(NonFiniteError, match=r"step 1: .*both must be finite"):
        trainer(policy, loss=Exploding()).step(1)
    assert torch.equal(weights(policy), before)


def test_the_watch_is_silent_where_a_run_counts_no_parts():
    watch = Watch()
    assert [watch(step, {"reward/mean": 0.5}) for step in range(20)] == [[]] * 20


def test_the_watch_warns_once_when_segments_halve():
    watch = Watch()
    counts = [6.0] * 6 + [2.0] * 8
    said = [watch(i, {"segments/per_response": c}) for i, c in enumerate(counts)]
    (sentence,) = [each for step in said for each in step]
    assert "2.8 segments, 6.0 at the start" in sentence
    again = Watch.from_carry(watch.carry())
    assert again == watch
