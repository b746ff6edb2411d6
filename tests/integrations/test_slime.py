"""slime's samples, as its source at 624b824 has them, with our advantages."""

from functools import partial
from pathlib import Path

import pytest
import torch

from rlcredit import Credit
from rlcredit.integrations.contract import SLIME
from rlcredit.integrations.slime import Rewards, advantages
from rlcredit.text import Windows
from tests.integrations import slime_world as world
from tests.integrations.world import (
    FITTING,
    ROWS,
    SIZES,
    TEXTS,
    Counted,
    fails,
    ours,
    ours_of_all,
    tokens,
    wanted,
)
from tests.policy.toy import toy_policy

CUT = {"segmenter": Windows(num_words=2)}
FIRST = 12
"""The number of the first group of the rollout."""


@pytest.fixture(scope="module")
def tokenizer():
    return toy_policy().tokenizer


def samples_of(tokenizer, sizes=SIZES):
    """A rollout's samples: ragged groups, one after the other."""
    samples = []
    for number, (row, texts, size) in enumerate(zip(ROWS, TEXTS, sizes, strict=False)):
        for text in texts[:size]:
            own = tokens(tokenizer, text)
            samples.append(
                world.Sample(
                    group_index=FIRST + number,
                    index=len(samples),
                    prompt=row["prompt"],
                    tokens=[*tokens(tokenizer, row["prompt"])[:-1], *own],
                    response=text,
                    response_length=len(own),
                    reward=wanted([text], [row])[0],
                    metadata=row,
                )
            )
    return samples


def rewards(credit, tokenizer):
    return Rewards(credit=credit, tokenizer=tokenizer, prompt=lambda sample: sample.metadata)


def parts(credit, tokenizer, samples, *, partitions, args=None):
    """What every data-parallel process is given of a rollout."""
    manager = world.RolloutManager(
        args or world.arguments(), rewards(credit, tokenizer), partitions
    )
    return manager._split_train_data_by_dp(manager._convert_samples_to_train_data(samples))


@pytest.mark.parametrize("name", FITTING)
def test_every_process_trains_on_our_advantages(name, tokenizer):
    credit = Credit(reward=wanted, estimator=name, seed=3, **CUT)
    samples = samples_of(tokenizer)
    given = parts(credit, tokenizer, samples, partitions=[[9, 0, 2, 4], [1, 3, 5, 6, 7, 8]])
    expected = ours_of_all(credit, tokenizer, step=FIRST)
    assert any(bool(row.any()) for row in expected)
    for part in given:
        found, returns = world.compute_advantages_and_returns(
            world.arguments(), part, advantages, world.slicer(0, 1)
        )
        assert all(map(torch.equal, found, [expected[index] for index in part["partition"]]))
        assert all(map(torch.equal, found, returns))
        assert world.log_rollout_data(part) == pytest.approx(
            sum(float(row.double().mean()) for row in found)
        )
        assert part["raw_reward"] == pytest.approx([sample.reward for sample in samples])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_processes_that_share_a_sequence_hold_their_slices(size, tokenizer):
    credit = Credit(reward=wanted, estimator="loo", **CUT)
    everything = range(sum(SIZES))
    held = []
    for rank in range(size):
        (part,) = parts(credit, tokenizer, samples_of(tokenizer), partitions=[everything])
        sliced = world.slicer(rank, size)
        whole = part["rewards"]
        found, _ = world.compute_advantages_and_returns(
            world.arguments(), part, partial(advantages, sliced=sliced), sliced
        )
        held += [value for row in found for value in row.tolist()]
        assert any(len(row) for row in found)
    assert sorted(held) == sorted(value for row in whole for value in row)


def test_slices_without_a_slicer_are_refused(tokenizer):
    (part,) = parts(
        Credit(reward=wanted), tokenizer, samples_of(tokenizer), partitions=[range(sum(SIZES))]
    )
    with pytest.raises(ValueError, match=r"holds \d+ of \d+ tokens .* sequences are cut"):
        world.compute_advantages_and_returns(
            world.arguments(), part, advantages, world.slicer(0, 2)
        )


def test_a_sample_that_is_left_out_of_training_is_a_sibling_still(tokenizer):
    credit = Credit(reward=wanted, estimator="loo", **CUT)
    samples = samples_of(tokenizer, (4,))
    samples[1].remove_sample = True
    samples[2].loss_mask = [0] * samples[2].response_length
    (part,) = parts(credit, tokenizer, samples, partitions=[range(4)])
    expected = ours(credit, tokenizer, ROWS[:1], TEXTS[:1], step=FIRST)
    assert all(map(torch.equal, map(torch.tensor, part["rewards"]), expected))
    assert [sum(mask) > 0 for mask in part["loss_masks"]] == [True, False, False, True]


def test_no_two_groups_of_a_rollout_have_the_same_random_numbers(tokenizer):
    credit = Counted(reward=wanted)
    parts(credit, tokenizer, samples_of(tokenizer), partitions=[])
    assert credit.asked == [(1, 0, FIRST), (2, 1, FIRST)]


def test_a_reward_that_fails_stops_the_rollout(tokenizer):
    with pytest.raises(RuntimeError, match="the judge is away"):
        parts(Credit(reward=fails), tokenizer, samples_of(tokenizer), partitions=[])


def test_a_reward_of_another_function_is_refused_and_its_key_is_read(tokenizer):
    samples = samples_of(tokenizer)
    for sample in samples:
        sample.reward = {"wanted": sample.reward, "judge": 9.0}
    credit = Credit(reward=wanted)
    parts(credit, tokenizer, samples, partitions=[], args=world.arguments(reward_key="wanted"))
    with pytest.raises(ValueError, match="earned 9, and the reward of the credit says"):
        parts(credit, tokenizer, samples, partitions=[], args=world.arguments(reward_key="judge"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loss_mask": [1, 1, 0]}, "sample 0 trains on 2 of 3 tokens"),
        ({"group_index": None}, "sample 0 has no group_index"),
        ({"group_index": 99}, "group 99 has one response"),
        ({"group_index": FIRST + 1}, "responses to different prompts"),
    ],
)
def test_samples_that_cannot_be_credited_are_refused(change, said, tokenizer):
    samples = samples_of(tokenizer)
    for name, value in change.items():
        setattr(samples[0], name, value)
    with pytest.raises(ValueError, match=said):
        parts(Credit(reward=wanted), tokenizer, samples, partitions=[])


def test_parts_of_one_rollout_are_refused(tokenizer):
    samples = samples_of(tokenizer)
    for sample in samples:
        sample.rollout_id = sample.index // 2
    with pytest.raises(ValueError, match="several samples have one rollout_id"):
        parts(Credit(reward=wanted), tokenizer, samples, partitions=[])


@pytest.mark.parametrize(
    ("estimator", "changed", "said"),
    [
        ("ospo", {"advantage_estimator": "gspo"}, "gspo has a critic.*OSPO credits each segment"),
        ("grpo", {"advantage_estimator": "ppo"}, "ppo has a critic"),
        ("grpo", {"normalize_advantages": True}, "--normalize-advantages moves"),
        ("grpo", {"custom_advantage_function_path": None}, "function-path is not set"),
    ],
)
def test_arguments_that_would_change_what_the_credit_means_are_refused(
    estimator, changed, said, tokenizer
):
    credit = Credit(reward=wanted, estimator=estimator)
    with pytest.raises(ValueError, match=said):
        parts(
            credit, tokenizer, samples_of(tokenizer), partitions=[], args=world.arguments(**changed)
        )


def test_whole_responses_go_with_a_ratio_of_whole_responses(tokenizer):
    args = world.arguments(advantage_estimator="gspo")
    credit = Credit(reward=wanted, estimator="rloo")
    (part,) = parts(credit, tokenizer, samples_of(tokenizer), partitions=[[0]], args=args)
    assert len(part["rewards"][0]) == part["response_lengths"][0]


@pytest.mark.parametrize("reward", [0.5, [0.5]])
def test_rewards_that_are_no_advantages_are_refused(reward):
    data = {"rewards": [reward], "total_lengths": [5], "response_lengths": [3]}
    data["kl"] = [torch.zeros(3)]
    with pytest.raises(ValueError, match="and not its advantages"):
        advantages(world.arguments(), data)


def test_the_recorded_manager_keeps_the_contract_and_another_does_not():
    source = Path(world.__file__).read_text()
    assert SLIME.moved_in(source) == []
    changed = source.replace('"rewards", "loss_masks"', '"loss_masks"')
    (moved,) = SLIME.moved_in(changed)
    assert moved.startswith("RolloutManager._split_train_data_by_dp no longer says")
