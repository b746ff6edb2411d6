"""Rewards of parts that are pooled from their wholes, beside exact ones."""

from dataclasses import replace

import pytest
import torch

from rlcredit.estimators.utilities import Max
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.measures import NDCG
from rlcredit.rewards.base import PartReward
from rlcredit.rewards.engine import Plan
from rlcredit.rewards.ranking import Ranking, Shortcut
from rlcredit.rewards.repooled import RepooledReward
from rlcredit.types import Prompt
from tests.retrieval.catalogue import catalogue

DOCUMENTS = catalogue(120)
GRADES = dict(zip(DOCUMENTS.ids, (3, 3, 2, 1), strict=False))
PROMPTS = [
    Prompt(prompt_id=name, text="", query="", relevance=GRADES, pool=DOCUMENTS.ids[:size])
    for name, size in (("p", 60), ("q", 120))
]
WHOLES = ["red tent, steel bottle, wool jacket, trail boots", "cotton jacket, red tent, soft lamp"]
PARTS = [
    (WHOLES[0], "red tent"),
    (WHOLES[0], "red tent, steel bottle"),
    (WHOLES[0], "steel bottle, trail boots"),
    (WHOLES[1], "red tent"),
    (WHOLES[1], "cotton jacket, soft lamp"),
]
ASKED = [(prompt, whole, part) for prompt in PROMPTS for whole, part in PARTS]
SHORT = Ranking(measure=NDCG(cutoff=None), utility=Max(), shortcut=Shortcut.repool)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return Dense().index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def reward(index):
    bound = SHORT.bind(index)
    assert isinstance(bound, RepooledReward)
    return bound


def of_parts(reward, asked):
    prompts, wholes, parts = zip(*asked, strict=True)
    return reward.of_parts(prompts, parts, wholes)


def exact(index, asked):
    prompts, _, parts = zip(*asked, strict=True)
    return SHORT.exact.bind(index)(prompts, parts)


def test_only_with_the_shortcut_is_it_a_reward_of_parts(index, reward):
    assert isinstance(reward, PartReward)
    assert not isinstance(SHORT.exact.bind(index), PartReward)


def test_whole_texts_keep_their_exact_rewards_whatever_parts_were_asked_for(index, reward):
    texts = [*WHOLES, *(part for _, part in PARTS), "", "xyzzy"]
    plain = SHORT.exact.bind(index)(PROMPTS[:1] * len(texts), texts)
    of_parts(reward, ASKED)
    assert torch.equal(reward(PROMPTS[:1] * len(texts), texts), plain)
    assert reward.counts.remembered == reward.counts.remembered_texts == 0  # parts left nothing


def test_parts_are_approximate_and_each_is_its_wholes_own(index, reward):
    values = of_parts(reward, ASKED)
    change = (values - exact(index, ASKED)).abs()
    assert change.max() > 1e-3
    assert change.mean() < 0.2
    rows = reward.repool(["red tent"] * 2, WHOLES).rows
    assert (rows[0] - rows[1]).abs().max() > 1e-2


def test_a_part_that_is_its_whole_has_the_exact_reward(index, reward):
    asked = [(prompt, whole, whole) for prompt in PROMPTS for whole in WHOLES]
    torch.testing.assert_close(of_parts(reward, asked), exact(index, asked), rtol=0, atol=1e-5)


def test_a_part_that_is_not_found_is_encoded_exactly_and_counted(index, reward):
    odd = [(PROMPTS[0], WHOLES[0], part) for part in ("wool boots xyz", "soft lamp", "", " , ")]
    values = of_parts(reward, [*ASKED, *odd, *odd])
    assert torch.equal(values[-4:], exact(index, odd))
    assert torch.equal(values[-8:-4], exact(index, odd))
    assert values[-1] == values[-2] == 0
    counts = reward.counts
    assert (counts.parts, counts.unfound) == (7, 2)  # of distinct ones with words in them
    assert (counts.asked, counts.distinct, counts.texts) == (18, 14, 2 + 4)
    metrics = (reward.counts - replace(counts, parts=0)).metrics()
    assert metrics["perf/parts"] == 7
    assert metrics["perf/unfound_parts"] == 0


def test_rewards_do_not_depend_on_the_order_or_on_earlier_calls(index, reward):
    values = of_parts(reward, ASKED)
    reward([PROMPTS[0]] * len(PARTS), [part for _, part in PARTS])  # now remembered exactly
    assert torch.equal(of_parts(reward, ASKED), values)
    for order in (ASKED[::-1], [*ASKED[3:], *ASKED[:3]]):
        back = of_parts(SHORT.bind(index), order)
        assert torch.equal(back, values[[ASKED.index(asked) for asked in order]])


def test_indexes_that_cannot_are_refused_when_bound(tmp_path):
    bm25 = BM25().index(DOCUMENTS, cache=tmp_path)
    with pytest.raises(ValueError, match=r"reward\.shortcut=repool.*SparseIndex.*retriever=minilm"):
        SHORT.bind(bm25)
    assert len(SHORT.exact.bind(bm25)(PROMPTS, WHOLES)) == 2


def test_parts_and_wholes_come_in_pairs(reward):
    with pytest.raises(ValueError, match="1 wholes for 2 parts"):
        reward.of_parts(PROMPTS, WHOLES, WHOLES[:1])
    plan = Plan.of(PROMPTS, ["red  tent", "red tent"], WHOLES)
    assert plan.texts == ["red tent", "red tent"]
    assert plan.wholes == WHOLES
    assert plan.only([1]).wholes == WHOLES[1:]


def test_an_encoder_that_fails_raises_with_the_texts_saved(index, tmp_path, monkeypatch):
    reward = SHORT.bind(index, failures=tmp_path)
    assert isinstance(reward, RepooledReward)
    monkeypatch.setattr(reward.repool.embed.model[0], "forward", lambda features: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        of_parts(reward, ASKED)
    assert WHOLES[0] in "".join(path.read_text() for path in tmp_path.iterdir())
