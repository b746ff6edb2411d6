import pytest
import torch

from rlcredit.rollout.hf import HFRollout
from rlcredit.trainer.memory import DoesNotFitError, sampling_fits, update_fits
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Randomness
from tests.policy.toy import toy_policy, toy_prompts

SETTINGS = TrainerSettings(prompts_per_step=2, group_size=3, tokens_per_microbatch=4096)


def too_much():
    """The allocator's own refusal of a petabyte."""
    return torch.empty(2**50, dtype=torch.uint8)


@pytest.fixture(scope="module")
def rollouts():
    engine = HFRollout(max_new_tokens=5)
    prompts = toy_prompts()[:2]
    return engine(toy_policy(), prompts, group_size=3, randomness=Randomness(seed=0, step=1))


def test_sampling_that_does_not_fit_names_its_sizes():
    with (
        pytest.raises(DoesNotFitError, match=r"prompts_per_step=2 x .*group_size=3 = 6 responses"),
        sampling_fits(SETTINGS, max_new_tokens=5),
    ):
        too_much()


def test_an_update_that_does_not_fit_says_how_far_the_budget_can_go(rollouts):
    row = rollouts.prompt_ids.shape[1] + rollouts.response_ids.shape[2]
    with (
        pytest.raises(DoesNotFitError, match=rf"microbatch=4096.*to no less than {row}, a single"),
        update_fits(SETTINGS, rollouts, [slice(0, 6)]),
    ):
        too_much()


def test_a_single_row_that_does_not_fit_has_another_remedy(rollouts):
    with (
        pytest.raises(DoesNotFitError, match=r"lower rollout\.max_new_tokens"),
        update_fits(SETTINGS, rollouts, [slice(0, 1), slice(1, 2)]),
    ):
        too_much()


def test_other_errors_pass_through(rollouts):
    with (
        pytest.raises(RuntimeError, match=r"^no matter of memory$"),
        update_fits(SETTINGS, rollouts, [slice(0, 6)]),
    ):
        raise RuntimeError("no matter of memory")
