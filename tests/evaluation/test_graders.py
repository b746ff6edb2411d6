"""Which grader a reward gets."""

from dataclasses import dataclass, replace

import pytest
import torch

from rlcredit.estimators import Max
from rlcredit.evaluation.cells import Source
from rlcredit.evaluation.graders import (
    Grader,
    SearchGrader,
    Surroundings,
    VerifiedGrader,
    grader_of,
)
from rlcredit.retrieval import TFIDF
from rlcredit.rewards import NDCG, Ranking, Verifier
from rlcredit.tasks import ESCI, Countdown


@dataclass(frozen=True)
class Letters:
    """A reward of one's own: one method, no base class."""

    def __call__(self, prompts, texts):
        return torch.tensor([float(len(text)) for text in texts])


@pytest.fixture(scope="module")
def esci():
    return ESCI(max_train=4, max_validation=4, max_test=4).load()


@pytest.fixture(scope="module")
def countdown():
    return Countdown(max_train=4, max_validation=4, max_test=4).load()


@pytest.fixture
def surroundings(tmp_path):
    return Surroundings(
        retrievers={"tfidf": TFIDF()}, cache=tmp_path / "cache", failures=tmp_path / "failures"
    )


def test_the_class_of_the_reward_decides(esci, countdown, surroundings):
    ranking = Ranking(measure=NDCG(), utility=Max())
    assert type(grader_of(ranking, esci, surroundings)) is SearchGrader
    assert type(grader_of(Verifier(), countdown, surroundings)) is VerifiedGrader
    for task in (esci, countdown):
        assert type(grader_of(Letters(), task, surroundings)) is Grader


@dataclass(frozen=True)
class FiveLetters(Letters):
    """Registered below with a grader of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FiveGrader(Grader):
    pass


def test_a_class_of_one_s_own_brings_its_grader(esci, surroundings):
    grader_of.register(
        FiveLetters, lambda reward, task, _: FiveGrader(reward=reward, rules=task.rules)
    )
    assert type(grader_of(FiveLetters(), esci, surroundings)) is FiveGrader


def test_a_reward_cannot_grade_a_task_of_another_kind(esci, countdown, surroundings):
    with pytest.raises(ValueError, match="no problem whose answers could be verified"):
        grader_of(Verifier(), esci, surroundings)
    with pytest.raises(ValueError, match="no documents"):
        grader_of(Ranking(measure=NDCG(), utility=Max()), countdown, surroundings)


def test_what_a_set_earns_is_known_of_search_alone(esci, surroundings):
    sets = replace(esci, rules=replace(esci.rules, num_candidates=4))
    with pytest.raises(ValueError, match="Letters does not"):
        grader_of(Letters(), sets, surroundings)


def test_the_mean_reward_of_each_prompt_whatever_the_batch(countdown, surroundings):
    grader = grader_of(Letters(), countdown, surroundings)
    responses = {
        Source.sampled: [("a", "bbb"), ("cc", "cc"), ("", "d")],
        Source.greedy: [("a",), ("bb",), ("ccc",)],
    }
    prompts = countdown.train[:3]
    for size in (1, 2, 64):
        scores = grader.scores(prompts, responses, prompts_per_batch=size)
        named = {cell.name: values for cell, values in scores.items()}
        assert named == {"reward": (2.0, 2.0, 0.5), "reward_greedy": (1.0, 2.0, 3.0)}
    assert grader.headline in named
