"""prime-rl's groups of traces, as its source at 559b447 has them, with our advantages."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rlcredit import Credit
from rlcredit.integrations.contract import PRIME_RL
from rlcredit.integrations.prime_rl import install
from rlcredit.text import Windows
from tests.integrations import prime_rl_world as world
from tests.integrations.world import (
    FITTING,
    ROWS,
    SIZES,
    TEXTS,
    Counted,
    fails,
    ours,
    tokens,
    wanted,
)
from tests.policy.toy import toy_policy

CONFIG = SimpleNamespace(type="grpo", action_loss_type="rl", length_penalty=None)
CUT = {"segmenter": Windows(num_words=2)}


@pytest.fixture(scope="module")
def tokenizer():
    return toy_policy().tokenizer


def trace_of(tokenizer, row, text, number=0, **settings):
    """A trace of one turn: the prompt's node, and what the policy wrote behind its scaffold."""
    scaffold = tokens(tokenizer, "for")[:-1]
    own = tokens(tokenizer, text)
    nodes = [
        world.MessageNode("user", token_ids=tokens(tokenizer, row["prompt"])[:-1]),
        world.MessageNode(
            "assistant",
            parent=0,
            sampled=True,
            token_ids=[*scaffold, *own],
            mask=[False] * len(scaffold) + [True] * len(own),
        ),
    ]
    nodes[0].mask = [False] * len(nodes[0].token_ids)
    reward = wanted([text], [row])[0]
    usual = {"rewards": {"wanted": world.Reward(reward / 2, 2.0), "skipped": None}}
    task = SimpleNamespace(data=row)
    return world.Trace(id=f"trace{number}", task=task, nodes=nodes, **(usual | settings))


def group_of(tokenizer, row, texts, **settings):
    return [
        world.Episode([trace_of(tokenizer, row, text, number, **settings)])
        for number, text in enumerate(texts)
    ]


def given(episodes):
    """The advantages that the trainer would read, a row of tokens a trace."""
    return [
        torch.tensor(node.advantages)
        for episode in episodes
        for trace in episode.traces
        for node in trace.nodes
        if node.advantages is not None
    ]


def algorithm(credit, tokenizer, config=CONFIG):
    module = world.algo()
    install(module, credit=credit, tokenizer=tokenizer, prompt=lambda trace: trace.task.data)
    return world.build_algorithm(module, config)


@pytest.mark.parametrize("name", FITTING)
def test_groups_of_any_size_get_our_advantages(name, tokenizer):
    credit = Credit(reward=wanted, estimator=name, seed=3, **CUT)
    built = algorithm(credit, tokenizer)
    moved = False
    for number, (row, texts, size) in enumerate(zip(ROWS, TEXTS, SIZES, strict=True)):
        episodes = group_of(tokenizer, row, texts[:size])
        asyncio.run(built.finalize_group(episodes))
        found = given(episodes)
        expected = ours(credit, tokenizer, [row], [texts[:size]], offset=number)
        assert all(map(torch.equal, found, expected))
        assert len(found) == size
        moved |= any(bool(each.any()) for each in found)
        assert all(episode.traces[0].nodes[0].advantages is None for episode in episodes)
    assert moved


def test_no_two_groups_have_the_same_random_numbers(tokenizer):
    credit = Counted(reward=wanted)
    built = algorithm(credit, tokenizer)
    for row, texts in zip(ROWS, TEXTS, strict=True):
        asyncio.run(built.finalize_group(group_of(tokenizer, row, texts)))
    assert credit.asked == [(1, 0, 0), (1, 1, 0), (1, 2, 0)]


def test_rollouts_that_failed_or_train_nothing_are_no_siblings(tokenizer):
    credit = Credit(reward=wanted, estimator="loo", **CUT)
    episodes = group_of(tokenizer, ROWS[0], TEXTS[0])
    episodes[1].traces[0].ok = False
    episodes[2].traces[0].agent.trainable = False
    asyncio.run(algorithm(credit, tokenizer).finalize_group(episodes))
    expected = ours(credit, tokenizer, ROWS[:1], [[TEXTS[0][0], TEXTS[0][3]]])
    assert all(map(torch.equal, given(episodes), expected))
    assert [episode.traces[0].nodes[1].advantages is None for episode in episodes] == [
        *(False, True, True, False)
    ]


def test_a_rollout_without_siblings_earns_nothing_and_that_is_said(tokenizer, caplog):
    episodes = group_of(tokenizer, ROWS[0], TEXTS[0][:2])
    episodes[0].traces[0].ok = False
    asyncio.run(algorithm(Credit(reward=wanted), tokenizer).finalize_group(episodes))
    (only,) = given(episodes)
    assert not only.any()
    assert "1 of 2 rollouts of a group is left" in caplog.text


def test_a_reward_that_fails_stops_the_step(tokenizer):
    episodes = group_of(tokenizer, ROWS[0], TEXTS[0])
    with pytest.raises(RuntimeError, match="the judge is away"):
        asyncio.run(algorithm(Credit(reward=fails), tokenizer).finalize_group(episodes))
    assert given(episodes) == []


def test_a_reward_that_is_not_the_environment_s_is_refused(tokenizer):
    episodes = group_of(tokenizer, ROWS[0], TEXTS[0], rewards={"judge": world.Reward(9.0)})
    with pytest.raises(ValueError, match=r"earned 9, and the reward of the credit says 2\.\d+:"):
        asyncio.run(algorithm(Credit(reward=wanted), tokenizer).finalize_group(episodes))
    unscored = group_of(tokenizer, ROWS[0], TEXTS[0], rewards={})
    asyncio.run(algorithm(Credit(reward=wanted), tokenizer).finalize_group(unscored))
    assert len(given(unscored)) == 4


def test_what_a_tool_wrote_between_two_turns_is_refused(tokenizer):
    episodes = group_of(tokenizer, ROWS[0], TEXTS[0])
    nodes = episodes[2].traces[0].nodes
    found = tokens(tokenizer, "steel")
    nodes.append(world.MessageNode("tool", parent=1, token_ids=found, mask=[False] * len(found)))
    nodes.append(
        world.MessageNode(
            "assistant", parent=2, sampled=True, token_ids=found, mask=[True] * len(found)
        )
    )
    with pytest.raises(ValueError, match="trace2 has 2 turns of the policy"):
        asyncio.run(algorithm(Credit(reward=wanted), tokenizer).finalize_group(episodes))


def test_groups_of_two_prompts_are_refused(tokenizer):
    episodes = [
        *group_of(tokenizer, ROWS[0], TEXTS[0][:1]),
        *group_of(tokenizer, ROWS[1], TEXTS[1][:1]),
    ]
    with pytest.raises(ValueError, match="responses to different prompts"):
        asyncio.run(algorithm(Credit(reward=wanted), tokenizer).finalize_group(episodes))


def test_a_thought_that_the_prompt_opened_is_no_part_of_the_text(tokenizer):
    read = []

    def kept(texts, rows):
        read.extend(texts)
        return [0.0] * len(texts)

    class Thinking:
        """The tokenizer, with a prompt that ends as templates of thinking models end theirs."""

        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, *words, **settings):
            return tokenizer(*words, **settings)

        def batch_decode(self, rows, **settings):
            opens = tokens(tokenizer, ROWS[0]["prompt"])[:-1]
            return [
                text + "<think>\n" * (row[: len(opens)] == opens)
                for text, row in zip(tokenizer.batch_decode(rows, **settings), rows, strict=True)
            ]

    episodes = group_of(tokenizer, ROWS[0], TEXTS[0], rewards={})
    credit = Credit(reward=kept, estimator="grpo")
    asyncio.run(algorithm(credit, Thinking()).finalize_group(episodes))
    assert read
    assert not any(read)  # a thought that never ended holds no answer


def test_length_penalties_are_refused(tokenizer):
    config = SimpleNamespace(**(vars(CONFIG) | {"length_penalty": object()}))
    with pytest.raises(ValueError, match="length_penalty changes the reward"):
        algorithm(Credit(reward=wanted), tokenizer, config)


def test_two_credits_of_one_name_are_refused(tokenizer):
    module = world.algo()
    settings = {"credit": Credit(reward=wanted), "tokenizer": tokenizer, "prompt": str}
    install(module, **settings)
    with pytest.raises(ValueError, match="'grpo' is CreditAlgorithm already"):
        install(module, **settings)
    assert module.ALGORITHM_CLASSES["echo"] is world.GRPOAlgorithm


def test_what_moved_in_prime_rl_is_named():
    contract = replace(PRIME_RL, parameters={"score_group": ("self", "traces")})
    with pytest.raises(ImportError, match=r"takes \['self', 'episodes'\]"):
        contract.check(world.Algorithm, "here")
