"""Dynamic sampling: groups of equal rewards make room, what that costs is counted, and it ends."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import pytest
import torch

from rlcredit.credit.group import equal_rewards
from rlcredit.estimators import GRPO, OSPO, Additive, LeaveOneOut
from rlcredit.losses.surrogate import ClippedSurrogate
from rlcredit.rollout.hf import HFRollout
from rlcredit.run.watch import Watch
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.segmenters import Phrases
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Prompt
from tests.policy.toy import toy_policy, toy_prompts, toy_task

PROMPTS = toy_prompts()[:9]
EASY = {prompt.prompt_id for prompt in PROMPTS[::2]}
"""Prompts to which every response earns 1."""


@dataclass(frozen=True)
class SomeEasy:
    """Shorter texts are better, but for prompts that are all easy."""

    easy: frozenset[str] = frozenset(EASY)

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        pairs = zip(prompts, texts, strict=True)
        return torch.tensor(
            [1.0 if p.prompt_id in self.easy else 1 / (1 + len(text)) for p, text in pairs]
        )


@pytest.fixture(scope="module")
def flat():
    made = toy_policy(steps=0, extra_ends=50)
    return lambda: deepcopy(made)


def trainer(policy, *, reward=None, estimator=None, prompts=PROMPTS, **settings):
    wanted = {"steps": 9, "prompts_per_step": 4, "group_size": 4, "optimizer": AdamW(lr=1e-2)}
    return Trainer(
        settings=TrainerSettings(**(wanted | settings)),
        policy=policy,
        rollout=HFRollout(max_new_tokens=12),
        scorer=Scorer(reward=reward or SomeEasy(), rules=toy_task().rules, segmenter=Phrases()),
        estimator=estimator or GRPO(),
        loss=ClippedSurrogate(),
        prompts=prompts,
        seed=3,
    )


def test_groups_of_equal_rewards_are_replaced_by_those_of_prompts_not_asked_before(flat):
    plain, made = trainer(flat()), trainer(flat(), resample_equal_groups=5)
    before, after = plain.step(1), made.step(1)
    equal = equal_rewards(before.signals.rewards)
    assert 0 < equal.sum() < 4
    assert not equal_rewards(after.signals.rewards).any()
    asked = [prompt.prompt_id for prompt in made.batch_prompts(1)]
    for place, was_equal in enumerate(equal.tolist()):
        now = after.rollouts.prompts[place].prompt_id
        assert (now != asked[place]) == was_equal
        if was_equal:
            assert now not in asked
            assert now not in EASY
        else:
            assert after.rollouts.texts[place] == before.rollouts.texts[place]
    assert after.metrics["rollout/resampled_groups"] >= int(equal.sum())
    assert after.metrics["rollout/equal_groups_kept"] == 0
    assert "rollout/resampled_groups" not in before.metrics


def test_rows_stay_together_whatever_was_replaced(flat):
    estimator = OSPO(value=LeaveOneOut(), construction=Additive())
    made = trainer(flat(), estimator=estimator, resample_equal_groups=5)
    result = made.step(1)
    signals, rollouts = result.signals, result.rollouts
    for p, prompt in enumerate(rollouts.prompts):
        again = made.scorer.reward([prompt] * 4, list(rollouts.texts[p]))
        assert torch.equal(again > 0, signals.rewards[p] > 0)
        ids, mask = made.policy.encode([prompt])
        assert rollouts.prompt_ids[p][rollouts.prompt_mask[p]].tolist() == ids[0][mask[0]].tolist()
        for g, text in enumerate(rollouts.texts[p]):
            kept = rollouts.response_ids[p, g][rollouts.response_mask[p, g]]
            assert made.policy.tokenizer.decode(kept, skip_special_tokens=True) == text
    scored = flat().logprobs(rollouts).logprobs.view_as(rollouts.rollout_logprobs)
    torch.testing.assert_close(scored, rollouts.rollout_logprobs, rtol=0, atol=1e-4)


def test_what_was_drawn_and_thrown_away_is_counted(flat):
    rounds = 3
    reward = SomeEasy(easy=frozenset(prompt.prompt_id for prompt in PROMPTS))
    result = trainer(flat(), reward=reward, resample_equal_groups=rounds).step(1)
    metrics = result.metrics
    assert metrics["rollout/resampled_groups"] == 4 * rounds
    assert metrics["rollout/equal_groups_kept"] == 4
    assert metrics["reward/evaluations"] == 4 * 4 * (1 + rounds)
    kept = int(result.rollouts.response_mask.sum())
    plain = trainer(flat(), reward=reward).step(1).metrics
    assert plain["response/sampled_tokens"] == plain["response/length_tokens"] * 16
    assert metrics["response/sampled_tokens"] > kept + plain["response/sampled_tokens"]


def test_the_bound_ends_in_a_sentence(flat):
    watch, said = Watch(), []
    for step in range(1, 7):
        said += watch(step, {"rollout/equal_groups_kept": 2.0})
    assert len(said) == 1
    assert "2.0 groups of a step have equal rewards after the last round" in said[0]


def test_a_step_is_a_function_of_weights_seed_and_number(flat):
    results = [trainer(flat(), resample_equal_groups=2).step(5) for _ in range(2)]
    first, second = results
    assert first.rollouts.texts == second.rollouts.texts
    assert first.metrics["train/loss"] == second.metrics["train/loss"]
    drawn = [text for group in first.rollouts.texts for text in group]
    assert len(set(drawn)) > len(drawn) // 2  # groups that came later draw numbers of their own


def test_a_training_set_that_a_step_asks_for_as_a_whole_is_asked_again(flat):
    made = trainer(flat(), prompts=PROMPTS[:4], resample_equal_groups=1)
    others = made.other_prompts(1, 0, 6)
    assert {prompt.prompt_id for prompt in others} == {p.prompt_id for p in PROMPTS[:4]}
    assert made.step(1).metrics["rollout/resampled_groups"] > 0


def test_a_number_of_rounds_below_none_is_refused():
    with pytest.raises(ValueError, match=r"trainer\.resample_equal_groups=-1"):
        TrainerSettings(resample_equal_groups=-1)
