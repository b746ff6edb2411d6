"""Credit without an engine: what it gives is what a run gives, and bad input is named."""

import functools

import pytest
import torch

import rlcredit
from rlcredit import OSPO, Credit, FunctionReward
from rlcredit.credit.group import group_relative
from rlcredit.estimators import Additive, LeaveOneOut, Max
from rlcredit.rollout.hf import HFRollout
from rlcredit.scoring.named import CANDIDATES, ESTIMATORS, estimator_named
from rlcredit.scoring.scorer import Scorer
from rlcredit.text import Phrases, TextRules
from rlcredit.types import Prompt, Randomness
from tests.policy.toy import toy_policy, toy_prompts
from tests.rollout.toy import Letters

RULES = TextRules(max_phrases=4, max_words=3, unique=True)
GROUP = ["red, big, wet", "big, big", "wet", ""]
ROW = {"prompt": "a tent", "wanted": ["red", "wet"]}


def wanted(texts, rows):
    """How many of the wanted words a text has."""
    return [
        float(sum(word in text for word in row["wanted"]))
        for text, row in zip(texts, rows, strict=True)
    ]


@pytest.fixture(scope="module")
def rollouts():
    """What a policy really sampled, at flat weights, so that texts of all lengths come."""
    policy = toy_policy()
    engine = HFRollout(max_new_tokens=24, temperature=1.3, max_rows=64)
    prompts = toy_prompts()[:3]
    sampled = engine(policy, prompts, group_size=5, randomness=Randomness(seed=5, step=2))
    return policy, sampled


@pytest.mark.parametrize("name", ESTIMATORS)
def test_advantages_are_those_of_a_run_on_the_same_tokens(name, rollouts):
    policy, sampled = rollouts
    estimator = estimator_named(name)
    credit = Credit(reward=Letters(), estimator=name, rules=RULES, seed=3)
    found = credit.of_tokens(
        sampled.prompts, sampled.response_ids, sampled.response_mask, policy.tokenizer, step=7
    )
    scorer = Scorer(
        reward=Letters(), rules=RULES, segmenter=Phrases(), encoder=credit.scorer.encoder
    )
    signals = scorer(sampled, estimator.needs, randomness=Randomness(seed=3, step=7))
    assert torch.equal(found.rewards, signals.rewards)
    assert torch.equal(found.advantages, estimator(signals).values)
    assert bool(found.advantages.any())


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_of_sets_are_credited(name):
    rules = TextRules(num_candidates=2)
    credit = Credit(reward=wanted, estimator=name, rules=rules)
    texts = ["<c1>red</c1><c2>big</c2>", "<c1>big</c1><c2>wide</c2>"]
    found = credit([ROW], [texts])
    assert found.rewards.tolist() == [[1.0, 0.0]]
    first, second = texts[0].index("red"), texts[0].index("big")
    assert found.advantages[0, 0, first] > found.advantages[0, 0, second]
    assert found.subsets == []


def test_segments_and_the_subsets_that_were_scored_are_shown():
    found = Credit(reward=wanted, estimator="loo")([ROW], [GROUP])
    assert found.rewards.tolist() == [[2.0, 0.0, 1.0, 0.0]]
    parts = found.completions[0].segments
    assert [(part.text, part.credit) for part in parts] == [("red", 1), ("big", 0), ("wet", 1)]
    assert [part.counts for part in found.completions[1].segments] == [True, False]
    told = [(s.response, s.text, s.reward) for s in found.subsets if s.response == 0]
    assert told[:2] == [(0, "", 0.0), (0, "red, big, wet", 2.0)]
    assert sorted(told[2:]) == [(0, "big, wet", 1.0), (0, "red, big", 1.0), (0, "red, wet", 2.0)]
    for subset in found.subsets:
        assert subset.reward == wanted([subset.text], [ROW])[0]


def test_a_method_of_whole_responses_has_no_credit_of_parts():
    found = Credit(reward=wanted, estimator="grpo")([ROW], [GROUP])
    assert found.credit is None
    assert found.subsets == []
    relative = group_relative(found.rewards)
    spread = torch.where(found.responses.response_mask, relative.unsqueeze(-1), 0)
    assert torch.equal(found.advantages, spread)


def test_an_estimator_may_be_an_object_and_a_prompt_a_text():
    loo = OSPO(value=LeaveOneOut(), construction=Additive())
    count = Credit(reward=lambda texts, rows: [len(text) for text in texts], estimator=loo)
    named = Credit(reward=Letters(), estimator="loo")
    assert named.estimator == count.estimator
    assert count(["a tent"], [["a, bb", "c"]]).rewards.tolist() == [[5, 1]]


@pytest.mark.parametrize("kind", ["async", "partial", "at hand"])
def test_functions_of_every_kind_are_called_with_texts_and_rows(kind):
    async def later(texts, rows):
        return wanted(texts, rows)

    class Own:
        def __call__(self, texts, rows):
            return wanted(texts, rows)

    reward = {
        "async": later,
        "partial": functools.partial(wanted),
        "at hand": FunctionReward.at_hand(Own()),
    }[kind]
    assert Credit(reward=reward)([ROW], [GROUP]).rewards.tolist() == [[2, 0, 1, 0]]


def test_a_text_is_scored_once_in_a_batch_and_remembered():
    asked = []

    def score(texts, rows):
        asked.extend(texts)
        return wanted(texts, rows)

    credit = Credit(reward=score, estimator="loo")
    first = credit([ROW], [["red, wet", "red, wet", "wet"]])
    checked_again = len(asked) - len(set(asked))
    assert checked_again <= 4  # a sample is asked twice: does a text have one reward?
    asked.clear()
    again = credit([ROW], [["red, wet", "red, wet", "wet"]])
    assert asked == []
    assert torch.equal(first.advantages, again.advantages)


def test_rows_that_differ_have_rewards_of_their_own():
    rows = [ROW, ROW | {"wanted": ["big"]}]
    found = Credit(reward=wanted, estimator="grpo")(rows, [["red", "big"], ["red", "big"]])
    assert found.rewards.tolist() == [[1, 0], [0, 1]]


def test_score_follows_the_rules_and_the_order():
    rules = TextRules(max_phrases=1)
    texts = ["red, wet", "<think>red</think>wet", "big"]
    found = rlcredit.score(texts, [ROW] * 3, reward=wanted, rules=rules)
    assert found.tolist() == [1, 1, 0]
    assert rlcredit.score([], [], reward=wanted).shape == (0,)
    with pytest.raises(ValueError, match="1 texts for 2 prompts"):
        rlcredit.score(["a"], [ROW] * 2, reward=wanted)


def test_credit_of_parts_is_refused_where_a_part_means_nothing():
    reward = FunctionReward.at_hand(wanted, parts=False)
    with pytest.raises(ValueError, match=r"a part means nothing.*estimator='grpo'"):
        Credit(reward=reward, estimator="ospo")
    assert Credit(reward=reward, estimator="grpo")([ROW], [GROUP]).rewards.shape == (1, 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"estimator": "shape"}, "candidates are needed"),
        (
            {"estimator": "ospo", "rules": TextRules(num_candidates=2)},
            "coalitions of segments are needed",
        ),
    ],
)
def test_rules_and_estimators_that_do_not_go_together_are_refused_at_once(settings, said):
    with pytest.raises(ValueError, match=said):
        Credit(reward=wanted, **settings)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"query": "a"}, r"the columns query has prompt=None"),
        ({}, r"\(none\)"),
        ({"prompt": 3}, "prompt=3"),
        ({"prompt": "a", "relevance": [1]}, r"relevance=\[1\]"),
        ({"prompt": "a", "image": torch.ones(2)}, r"column image holds a Tensor.*tolist"),
    ],
)
def test_a_row_that_is_no_prompt_is_named(row, said):
    with pytest.raises(ValueError, match=said):
        Credit(reward=wanted)([row], [["a", "b"]])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda texts, rows: [0.0], "gave 1 values"),
        (lambda texts, rows: [float("nan")] * len(texts), "gave nan"),
        (lambda texts, rows: "ab", "type str"),
        (lambda texts, rows: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_a_reward_that_fails_is_no_zero(answer, said):
    with pytest.raises(RuntimeError, match=said):
        Credit(reward=answer)([ROW], [GROUP])


def test_graded_prompts_of_this_package_pass_as_they_are():
    prompt = Prompt(prompt_id="q", text="t", query="t", relevance={"d": 3})
    seen = []

    def score(texts, rows):
        seen.extend(rows)
        return [0.0] * len(texts)

    Credit(reward=score, estimator="grpo", utility=Max())([prompt], [["a", "b"]])
    assert seen[0]["relevance"] == {"d": 3}
    assert seen[0]["prompt_id"] == "q"
