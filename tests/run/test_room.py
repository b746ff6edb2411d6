"""Prompts that the context has no room for are known before a run begins."""

from dataclasses import replace

import pytest

from rlcredit.rollout.hf import HFRollout
from rlcredit.run.room import with_room
from rlcredit.types import Prompt
from tests.policy.toy import toy_policy, toy_task

LONG = Prompt(prompt_id="long", text="tent " * 120, query="", relevance={})


@pytest.fixture(scope="module")
def policy():
    made = toy_policy(steps=0)
    made.model.config.max_position_embeddings = 100
    return made


def test_training_prompts_without_room_are_dropped_and_counted(policy):
    task = toy_task()
    task = replace(task, train=(LONG, *task.train, LONG), counts={"products": 6})
    left = with_room(task, policy, HFRollout(max_new_tokens=40), num_held_out=None)
    assert left.train == task.train[1:-1]
    assert (left.validation, left.test, left.digest) == (task.validation, task.test, task.digest)
    assert left.counts == {
        "products": 6,
        "training prompts dropped: longer than 60 tokens": 2,
    }
    policy.encode(left.train, reserve=40)


def test_the_room_is_exact_and_a_task_that_fits_is_left_as_it_is(policy):
    task = toy_task()
    longest = max(policy.lengths(task.train))
    tight = 100 - longest
    assert with_room(task, policy, HFRollout(max_new_tokens=tight), num_held_out=0) is task
    left = with_room(task, policy, HFRollout(max_new_tokens=tight + 1), num_held_out=0)
    assert 0 < len(left.train) < len(task.train)
    assert max(policy.lengths(left.train)) < longest


def test_a_held_out_prompt_that_is_scored_and_has_no_room_is_refused(policy):
    task = replace(toy_task(), test=(*toy_task().test, LONG))
    rollout = HFRollout(max_new_tokens=40)
    tokens = policy.lengths([LONG])[0]
    said = rf"1 of 5 prompts .* more than 60 tokens \(the longest has {tokens}; one is 'long'\)"
    with pytest.raises(ValueError, match=said):
        with_room(task, policy, rollout, num_held_out=None)
    assert with_room(task, policy, rollout, num_held_out=2) is task


def test_a_task_without_a_prompt_that_has_room_is_refused(policy):
    task = replace(toy_task(), train=(LONG, LONG))
    with pytest.raises(ValueError, match="2 of 2 prompts"):
        with_room(task, policy, HFRollout(max_new_tokens=40), num_held_out=None)


def test_an_engine_with_less_context_than_the_policy_counts(policy):
    class Narrow(HFRollout):
        context = 50

    rollout = Narrow(max_new_tokens=40)
    task = replace(toy_task(), train=(*toy_task().train, replace(LONG, text="tent " * 11)))
    left = with_room(task, policy, rollout, num_held_out=0)
    assert left.train == task.train[:-1]
    assert with_room(task, policy, HFRollout(max_new_tokens=40), num_held_out=0) is task
