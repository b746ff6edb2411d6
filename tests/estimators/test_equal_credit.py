"""Phrases that change nothing are credited alike, in float32, by the reward that runs have."""

from dataclasses import replace

import pytest
import torch

from rlcredit.estimators import (
    OSPO,
    Additive,
    Max,
    Myerson,
    Owen,
    Proportional,
    Rank,
    Shapley,
    Weighted,
)
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.ranking import Ranking
from rlcredit.scoring.scorer import Scorer
from rlcredit.tasks import ESCI
from rlcredit.text.segmenters import Phrases
from rlcredit.types import Randomness
from tests.rollout.toy import written

IDLE = ["qa", "qb", "qc", "qd", "qe", "qf", "qg"]  # words of no product
CONSTRUCTIONS = [Rank(), Weighted(), Additive(), Proportional()]


@pytest.fixture(scope="module")
def task():
    return ESCI(known_words=False).load()


@pytest.fixture(scope="module")
def scorer(task, tmp_path_factory):
    index = BM25().index(task.documents, cache=tmp_path_factory.mktemp("cache"))
    reward = Ranking(measure=NDCG(), utility=Max()).bind(index)
    return Scorer(reward=reward, rules=task.rules, segmenter=Phrases())


@pytest.fixture(scope="module")
def one_earner(task):
    """Groups of eight responses: one phrase of the teacher's among seven that change nothing."""
    generator = torch.Generator().manual_seed(0)
    prompts, groups = task.train[:4], []
    for prompt in prompts:
        taught = task.teacher(prompt, generator).split(", ")
        groups.append(
            [
                ", ".join([*IDLE[:place], taught[place % len(taught)], *IDLE[place:]])
                for place in range(8)
            ]
        )
    return replace(written(*groups), prompts=tuple(prompts))


def of_idle_phrases(values, rollouts, signals):
    """One value for each idle phrase of each response whose reward is not its siblings'."""
    picked = []
    for p, group in enumerate(rollouts.texts):
        for g, text in enumerate(group):
            starts = [text.index(word) for word in IDLE]
            if signals.rewards[p].unique().numel() > 1:
                picked.append(values[p, g, starts])
    return torch.stack(picked)


@pytest.mark.parametrize("value", [Myerson(), Shapley(), Owen()])
def test_phrases_of_no_effect_have_one_credit_and_one_weight(one_earner, scorer, value):
    needs = OSPO(value=value, construction=Rank()).needs
    signals = scorer(one_earner, needs, randomness=Randomness(seed=0, step=1))
    assert signals.rewards.dtype == torch.float32
    for construction in CONSTRUCTIONS:
        result = OSPO(value=value, construction=construction)(signals)
        idle = of_idle_phrases(result.values, one_earner, signals)
        assert len(idle) > 20
        assert (idle == idle[:, :1]).all(), construction
        assert result.credit is not None
        assert (of_idle_phrases(result.credit, one_earner, signals) == 0).all()


def test_a_credit_that_is_flat_but_for_rounding_is_the_advantage_alone(one_earner, scorer):
    value = Myerson()
    estimator = OSPO(value=value, construction=Weighted())
    signals = scorer(one_earner, estimator.needs, randomness=Randomness(seed=0, step=1))
    game = signals.game
    assert game is not None
    # Every phrase adds a tenth of the reward.
    size = game.members.sum(dim=-1).to(signals.rewards)
    shared = replace(game, rewards=signals.rewards.unsqueeze(-1) * size / 10)
    rewards = shared.rewards[..., 1]
    signals = replace(signals, rewards=rewards, game=shared)
    raw = value(shared, randomness=None)
    assert (raw.amax(dim=-1) > raw.amin(dim=-1)).any()  # rounding is there to be seen
    for construction in CONSTRUCTIONS[:3]:
        values = OSPO(value=value, construction=construction)(signals).values
        end = signals.response_mask.sum(dim=-1, keepdim=True) - 1  # keeps the advantage
        expected = torch.where(signals.response_mask, values.gather(-1, end), 0)
        torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)
