"""What a policy is asked about its own responses, in training and in evaluation."""

import pytest
import torch

from rlcredit.estimators import GRPO, OTB, Vine
from rlcredit.rollout.hf import HFRollout
from rlcredit.rollout.observe import observe
from rlcredit.scoring.credit import Credit
from rlcredit.scoring.scorer import Scorer
from rlcredit.text import Phrases, TextRules
from rlcredit.types import Needs, Randomness
from tests.policy.toy import toy_policy, toy_prompts
from tests.rollout.toy import Letters

RANDOMNESS = Randomness(seed=5, step=2)
ENGINE = HFRollout(max_new_tokens=9, temperature=1.3)
SCORER = Scorer(reward=Letters(), rules=TextRules(), segmenter=Phrases())


@pytest.fixture(scope="module")
def sampled():
    policy = toy_policy(steps=0, dtype=torch.float64, extra_ends=50)
    return policy, ENGINE(policy, toy_prompts()[:3], group_size=4, randomness=RANDOMNESS)


def asked(sampled, needs, chunks):
    return observe(
        *sampled,
        needs,
        rollout=ENGINE,
        scorer=SCORER,
        randomness=RANDOMNESS,
        offset=0,
        chunks=chunks,
    )


def test_nothing_is_asked_that_nobody_needs(sampled):
    seen = asked(sampled, GRPO().needs, [])
    assert (seen.logprobs, seen.sum_pi_squared, seen.continuations) == (None, None, None)


def test_distributions_are_those_that_were_sampled_from_whatever_the_chunks(sampled):
    needs = Needs(sum_pi_squared=True)
    whole = asked(sampled, needs, [slice(0, 12)])
    rollouts = sampled[1]
    torch.testing.assert_close(whole.logprobs, rollouts.rollout_logprobs, rtol=0, atol=1e-9)
    parts = asked(sampled, needs, [slice(0, 5), slice(5, 6), slice(6, 12)])
    for mine, theirs in (
        (parts.logprobs, whole.logprobs),
        (parts.sum_pi_squared, whole.sum_pi_squared),
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    chance = whole.logprobs.exp()[rollouts.response_mask]
    squares = whole.sum_pi_squared[rollouts.response_mask]
    assert (squares >= chance.square()).all()
    assert (squares <= 1).all()


@pytest.mark.parametrize("estimator", [OTB(), Vine()])
def test_where_no_policy_is_at_hand_such_an_estimator_is_refused(estimator):
    with pytest.raises(ValueError, match="no policy is at hand"):
        Credit(reward=lambda texts, rows: [0.0 for _ in texts], estimator=estimator)
