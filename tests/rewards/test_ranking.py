import json
import logging
import time
from dataclasses import dataclass, field, replace

import ir_measures
import pytest
import torch

from rlcredit.estimators.utilities import Max
from rlcredit.retrieval.base import Documents, Encoded, Index
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.linear import LSA, TFIDF
from rlcredit.retrieval.measures import NDCG, AveragePrecision, Recall, ReciprocalRank
from rlcredit.rewards import ranking as module
from rlcredit.rewards.base import Reward
from rlcredit.rewards.costs import charges, earned
from rlcredit.rewards.ranking import Ranking, Scope
from rlcredit.types import Prompt
from tests.retrieval.catalogue import catalogue, phrase_lists

DOCUMENTS = catalogue(300)
RETRIEVERS = [BM25(), TFIDF(), LSA(dimensions=16)]
THEIRS = {
    NDCG: ir_measures.nDCG(gains={3: 100, 2: 10, 1: 1}) @ 10,
    ReciprocalRank: ir_measures.RR(rel=3),
    Recall: ir_measures.R(rel=3) @ 10,
    AveragePrecision: ir_measures.AP(rel=3),
}


def ranked_by(measure, **settings):
    return Ranking(measure=measure, utility=Max(), **settings)


def make_prompts(number, *, pool_size=40, seed=5):
    generator = torch.Generator().manual_seed(seed)
    prompts = []
    for i in range(number):
        shuffled = torch.randperm(len(DOCUMENTS.ids), generator=generator).tolist()
        pool = tuple(DOCUMENTS.ids[k] for k in shuffled[:pool_size])
        judged = (*pool[:6], DOCUMENTS.ids[shuffled[pool_size]])  # one of them outside the pool
        grades = dict(zip(judged, (3, 3, 2, 1, 1, 0, 3), strict=True))
        prompts.append(Prompt(prompt_id=f"q{i}", text="", query="", relevance=grades, pool=pool))
    return prompts


PROMPTS = make_prompts(6)
TEXTS = [*phrase_lists(8), "", "xyzzy", ","]
PAIRS = [(prompt, text) for prompt in PROMPTS for text in TEXTS]


def test_words_and_unknown_words_cost_in_every_text_and_in_no_measure(bm25):
    texts = ["red tent", "red, RED tent xyzzy", "xyzzy", "", "red-tent"]
    prompts = [PROMPTS[0]] * len(texts)
    free = ranked_by(NDCG()).bind(bm25)
    for word, unknown in [(0.01, 0.0), (0.0, 0.1), (0.01, 0.1)]:
        settings = {"word_cost": word, "unknown_cost": unknown}
        reward = ranked_by(NDCG(), **settings).bind(bm25, catalogue=DOCUMENTS)
        costs = torch.tensor([2 * word, 4 * word + unknown, word + unknown, 0, 2 * word])
        expected = free(prompts, texts) - costs
        found = earned(reward, prompts, written=texts, searched=texts)
        torch.testing.assert_close(found, expected)
        assert found[3] == 0
        assert found[2] < 0
        assert torch.equal(reward(prompts, texts), free(prompts, texts))
        for ours, theirs in zip(
            reward.ranked(prompts, texts), free.ranked(prompts, texts), strict=True
        ):
            assert torch.equal(ours, theirs)


def test_what_the_rules_leave_out_of_the_search_costs_all_the_same(bm25):
    reward = ranked_by(NDCG(), word_cost=0.01).bind(bm25)
    pair = {"written": ["red tent, red, a b c d"], "searched": ["red tent"]}
    (value,) = earned(reward, PROMPTS[:1], **pair) - reward(PROMPTS[:1], ["red tent"])
    assert float(value) == pytest.approx(-0.07)


def test_a_reward_without_costs_is_the_reward_itself_to_the_bit(bm25):
    reward = ranked_by(NDCG()).bind(bm25)
    assert not charges(reward)
    prompts, texts = [p for p, _ in PAIRS], [text for _, text in PAIRS]
    assert torch.equal(
        earned(reward, prompts, written=texts, searched=texts), reward(prompts, texts)
    )


@pytest.mark.parametrize("cost", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["unknown_cost", "word_cost"])
def test_a_cost_that_pays_or_is_no_number_is_refused(name, cost):
    with pytest.raises(ValueError, match=rf"reward\.{name}={cost}"):
        ranked_by(NDCG(), **{name: cost})


def test_unknown_words_cannot_cost_where_the_catalogue_is_not_given(bm25):
    reward = ranked_by(NDCG(), unknown_cost=0.1).bind(bm25)
    with pytest.raises(ValueError, match=r"unknown_cost=0\.1.*catalogue="):
        earned(reward, PROMPTS[:1], written=["red"], searched=["red"])


@pytest.fixture(scope="module", params=RETRIEVERS, ids=repr)
def index(request, tmp_path_factory):
    return request.param.index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def bm25(tmp_path_factory):
    return BM25().index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))


def ask(reward, pairs):
    return reward([prompt for prompt, _ in pairs], [text for _, text in pairs])


def naive(index, measure, pairs, *, whole):
    """Oracle: every text encoded and scored alone, ir-measures on the result."""
    values = []
    row_of = {document: row for row, document in enumerate(index.document_ids)}
    for prompt, text in pairs:
        qrels = [ir_measures.Qrel("q", d, g) for d, g in prompt.relevance.items()]
        documents = list(index.document_ids if whole else prompt.pool)
        rows = torch.tensor([row_of[document] for document in documents])
        scores = index.score(index.encode([text]), torch.tensor([0]), rows)[0].tolist()
        run = [
            ir_measures.ScoredDoc("q", document, score)
            for document, score in zip(documents, scores, strict=True)
            if score > -torch.inf
        ]
        found = [m.value for m in ir_measures.iter_calc([THEIRS[type(measure)]], qrels, run)]
        values.append(found[0] if found else 0.0)
    return values


@pytest.mark.parametrize("measure", [NDCG(), ReciprocalRank(), Recall(), AveragePrecision()])
def test_rewards_equal_ir_measures_on_texts_scored_alone(index, measure):
    reward = ranked_by(measure).bind(index)
    assert isinstance(reward, Reward)
    expected = naive(index, measure, PAIRS, whole=False)
    assert ask(reward, PAIRS).tolist() == pytest.approx(expected, abs=1e-5)


def test_rewards_over_the_catalogue_equal_ir_measures(index):
    some = PAIRS[3:14]
    for scope, prompts in [
        (Scope.catalogue, PROMPTS),
        (Scope.pool, [replace(prompt, pool=()) for prompt in PROMPTS]),
    ]:
        pairs = [(prompts[PROMPTS.index(prompt)], text) for prompt, text in some]
        reward = ranked_by(NDCG(), scope=scope).bind(index)
        expected = naive(index, NDCG(), pairs, whole=True)
        assert ask(reward, pairs).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_text_of_nothing_or_of_unknown_words_gets_exactly_zero(index):
    reward = ranked_by(NDCG()).bind(index)
    whole = ranked_by(ReciprocalRank(), scope=Scope.catalogue).bind(index)
    for one in (reward, whole):
        pairs = [(prompt, text) for prompt in PROMPTS for text in ("", "xyzzy", " ,")]
        assert ask(one, pairs).tolist() == [0.0] * len(pairs)


def test_a_batch_is_rewarded_like_its_pairs_alone_in_any_order(index):
    reward = ranked_by(NDCG()).bind(index)
    together = ask(reward, PAIRS)
    fresh = ranked_by(NDCG()).bind(index)
    alone = torch.cat([ask(fresh, [pair]) for pair in PAIRS])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    back = ask(ranked_by(NDCG()).bind(index), PAIRS[::-1]).flip(0)
    torch.testing.assert_close(together, back, rtol=0, atol=1e-5)


@dataclass(frozen=True, eq=False)
class Watched:
    """An index that notes what it is asked for, and can be told to fail."""

    inner: Index
    encoded: list[list[str]] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    broken: str = ""
    value: float | None = None

    @property
    def document_ids(self):
        return self.inner.document_ids

    @property
    def digest(self):
        return self.inner.digest

    @property
    def encoding(self):
        return self.inner.encoding

    def encode(self, texts):
        self.encoded.append(list(texts))
        if self.broken == "encode":
            raise ConnectionError("the server is gone")
        return self.inner.encode(texts)

    def score(self, encoded: Encoded, rows, documents=None):
        self.scored.append(len(rows))
        if self.broken == "score" and len(self.scored) > 2:
            raise MemoryError("no room")
        scores = self.inner.score(encoded, rows, documents)
        if self.value is not None:
            scores[rows == 1] = self.value
        return scores


def test_a_call_encodes_each_distinct_text_once_and_scores_each_distinct_pair_once(bm25):
    watched = Watched(bm25)
    reward = ranked_by(NDCG()).bind(watched)
    asked = [*PAIRS, *PAIRS[:9], PAIRS[0]]
    values = ask(reward, asked)
    assert torch.equal(values[len(PAIRS) :], values[[*range(9), 0]])
    assert watched.encoded == [TEXTS]
    assert watched.scored == [len(TEXTS)] * len(PROMPTS)


def test_several_measures_come_from_one_scoring(bm25):
    watched = Watched(bm25)
    reward = ranked_by(NDCG()).bind(watched)
    prompts, texts = [p for p, _ in PAIRS], [t for _, t in PAIRS]
    ranked, judged = reward.ranked(prompts, texts)
    assert ranked.shape == (len(PAIRS), 40)
    for measure in (NDCG(), ReciprocalRank(), Recall(), AveragePrecision()):
        own = ranked_by(measure).bind(bm25)(prompts, texts)
        torch.testing.assert_close(measure(ranked, judged).float(), own, rtol=0, atol=1e-6)
    assert len(watched.encoded) == 1
    cut, _ = reward.ranked(prompts, texts, depth=10)
    assert torch.equal(cut, ranked[:, :10])


def test_runs_hold_the_retrieved_documents_best_first_and_give_the_same_measures(index):
    reward = ranked_by(NDCG()).bind(index)
    prompts, texts = [p for p, _ in PAIRS], [t for _, t in PAIRS]
    runs = reward.run(prompts, texts, depth=100)
    for (prompt, text), run, value in zip(PAIRS, runs, reward(prompts, texts), strict=True):
        assert [d for d, _ in run] == [
            d for d, _ in sorted(run, key=lambda x: x[::-1], reverse=True)
        ]
        assert {d for d, _ in run} <= set(prompt.pool)
        if not text.strip(" ,") or text == "xyzzy":
            assert run == []
            continue
        qrels = [ir_measures.Qrel("q", d, g) for d, g in prompt.relevance.items()]
        docs = [ir_measures.ScoredDoc("q", d, s) for d, s in run]
        theirs = ir_measures.calc_aggregate([THEIRS[NDCG]], qrels, docs)[THEIRS[NDCG]]
        assert float(value) == pytest.approx(theirs, abs=1e-6)
    assert [run[:3] for run in runs] == reward.run(prompts, texts, depth=3)


def test_ties_are_broken_by_document_id_descending_and_leak_nothing(tmp_path):
    texts = ("red tent",) * 4
    index = BM25().index(Documents(ids=("a", "b", "c", "d"), texts=texts), cache=tmp_path)
    prompt = Prompt(prompt_id="q", text="", query="", relevance={"b": 3}, pool=("a", "b", "c", "d"))
    reward = ranked_by(ReciprocalRank()).bind(index)
    assert ask(reward, [(prompt, "red"), (prompt, "zzz")]).tolist() == pytest.approx([1 / 3, 0.0])
    assert [d for d, _ in reward.run([prompt], ["red"], depth=9)[0]] == ["d", "c", "b", "a"]


def test_large_products_are_split_without_a_difference(bm25, monkeypatch):
    reward = ranked_by(NDCG(), scope=Scope.catalogue).bind(bm25)
    whole = ask(reward, PAIRS)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 700)
    watched = Watched(bm25)
    assert torch.equal(
        ask(ranked_by(NDCG(), scope=Scope.catalogue).bind(watched), PAIRS),
        whole,
    )
    assert max(watched.scored) == 2


def test_an_index_in_another_order_gives_the_same_rewards(bm25):
    order = torch.randperm(300, generator=torch.Generator().manual_seed(3))

    class Shuffled(Watched):
        @property
        def document_ids(self):
            return tuple(bm25.document_ids[i] for i in order.tolist())

        def score(self, encoded, rows, documents=None):
            return bm25.score(encoded, rows, order if documents is None else order[documents])

    for scope in Scope:
        ranking = ranked_by(NDCG(), scope=scope)
        assert torch.equal(ask(ranking.bind(Shuffled(bm25)), PAIRS), ask(ranking.bind(bm25), PAIRS))


def test_a_pool_smaller_than_the_cutoff_is_ranked_whole_and_said_once(bm25, caplog):
    prompts = make_prompts(3, pool_size=7)
    reward = ranked_by(NDCG()).bind(bm25)
    pairs = [(prompt, text) for prompt in prompts for text in TEXTS]
    with caplog.at_level(logging.WARNING):
        values = ask(reward, pairs)
        ask(reward, pairs)
    assert values.tolist() == pytest.approx(naive(bm25, NDCG(), pairs, whole=False), abs=1e-6)
    assert len(caplog.records) == 1
    assert "prompt 'q0' has a pool of 7 documents, fewer than the 10 ranks" in caplog.text


def test_no_pairs_get_no_rewards(bm25):
    reward = ranked_by(NDCG()).bind(bm25)
    assert reward([], []).tolist() == []
    assert reward.run([], [], depth=5) == []


def test_prompts_that_cannot_be_scored_are_named(bm25):
    reward = ranked_by(NDCG()).bind(bm25)
    prompt = PROMPTS[0]
    cases = [
        ({"relevance": {}}, "'q0' has no document of grade 3"),
        ({"relevance": {prompt.pool[0]: 2}}, "'q0' has no document of grade 3"),
        ({"pool": (*prompt.pool, "ghost")}, r"pool of prompt 'q0' name 1 documents .*\(ghost\)"),
        ({"relevance": {**prompt.relevance, "gone": 1}}, r"judgements of prompt 'q0' .*\(gone\)"),
        ({"pool": (*prompt.pool, prompt.pool[3])}, "pool of prompt 'q0' names a document twice"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            reward([replace(prompt, **change)], ["red"])
    with pytest.raises(ValueError, match="1 prompts for 2 texts"):
        reward([prompt], ["red", "blue"])
    with pytest.raises(ValueError, match="two different prompts have the id 'q0'"):
        reward([prompt, replace(prompt, query="other")], ["red", "red"])


@pytest.mark.parametrize("broken", ["encode", "score"])
def test_a_retriever_that_fails_midway_raises_with_its_texts_saved(bm25, broken, tmp_path):
    watched = Watched(bm25, broken=broken)
    reward = ranked_by(NDCG()).bind(watched, failures=tmp_path / "failures")
    kind = {"encode": "ConnectionError: the server", "score": "MemoryError: no room"}[broken]
    with pytest.raises(
        RuntimeError, match=f"the retriever raised {kind}.*no reward was given"
    ) as caught:
        ask(reward, PAIRS)
    (path,) = (tmp_path / "failures").iterdir()
    assert str(path) in str(caught.value)
    assert json.loads(path.read_text())["texts"] == TEXTS
    assert isinstance(caught.value.__cause__, ConnectionError | MemoryError)
    with pytest.raises(RuntimeError, match=r"not saved .bind the reward with failures="):
        ask(ranked_by(NDCG()).bind(watched), PAIRS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_raises_and_names_the_text(bm25, value, tmp_path):
    reward = ranked_by(NDCG()).bind(Watched(bm25, value=value), failures=tmp_path)
    with pytest.raises(RuntimeError, match=r"no numbers for 'q0', on 1 texts") as caught:
        ask(reward, PAIRS)
    assert repr(TEXTS[1]) in str(caught.value)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text())["texts"] == [TEXTS[1]]


def test_a_failure_that_cannot_be_saved_still_says_what_failed(bm25, tmp_path):
    (tmp_path / "file").write_text("in the way")
    watched = Watched(bm25, broken="encode")
    reward = ranked_by(NDCG()).bind(watched, failures=tmp_path / "file")
    with pytest.raises(RuntimeError, match=r"the server is gone.*could not be saved"):
        ask(reward, PAIRS)


def test_a_steps_windows_are_rewarded_in_milliseconds(bm25):
    prompts = make_prompts(10, pool_size=100)
    phrases = ", ".join(phrase_lists(400, seed=2)).split(", ")
    lists = [phrases[8 * i : 8 * i + 8] for i in range(80)]
    pairs = [
        (prompts[i // 8], ", ".join(words[a:b]))
        for i, words in enumerate(lists)
        for a in range(len(words))
        for b in range(a + 1, len(words) + 1)
    ]
    assert len(pairs) > 2000
    reward = ranked_by(NDCG()).bind(bm25)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        ask(reward, pairs)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3  # about 0.02 on an idle core
