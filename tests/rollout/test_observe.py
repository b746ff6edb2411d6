"""What a policy is asked about its own responses, in training and in evaluation."""

import pytest
import torch

from rlcredit.estimators import GRPO, OTB
from rlcredit.rollout.hf import HFRollout
from rlcredit.rollout.observe import observe
from rlcredit.scoring.credit import Credit
from rlcredit.types import Needs, Randomness
from tests.policy.toy import toy_policy, toy_prompts


@pytest.fixture(scope="module")
def sampled():
    policy = toy_policy(steps=0, dtype=torch.float64, extra_ends=50)
    engine = HFRollout(max_new_tokens=9, temperature=1.3)
    prompts = toy_prompts()[:3]
    return policy, engine(policy, prompts, group_size=4, randomness=Randomness(seed=5, step=2))


def test_nothing_is_asked_that_nobody_needs(sampled):
    seen = observe(*sampled, GRPO().needs, chunks=[])
    assert (seen.logprobs, seen.sum_pi_squared) == (None, None)


def test_distributions_are_those_that_were_sampled_from_whatever_the_chunks(sampled):
    needs = Needs(sum_pi_squared=True)
    whole = observe(*sampled, needs, chunks=[slice(0, 12)])
    rollouts = sampled[1]
    torch.testing.assert_close(whole.logprobs, rollouts.rollout_logprobs, rtol=0, atol=1e-9)
    parts = observe(*sampled, needs, chunks=[slice(0, 5), slice(5, 6), slice(6, 12)])
    for mine, theirs in (
        (parts.logprobs, whole.logprobs),
        (parts.sum_pi_squared, whole.sum_pi_squared),
    ):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-9)
    chance = whole.logprobs.exp()[rollouts.response_mask]
    squares = whole.sum_pi_squared[rollouts.response_mask]
    assert (squares >= chance.square()).all()
    assert (squares <= 1).all()


def test_where_no_policy_is_at_hand_such_an_estimator_is_refused():
    with pytest.raises(ValueError, match="no policy is at hand"):
        Credit(reward=lambda texts, rows: [0.0 for _ in texts], estimator=OTB())
