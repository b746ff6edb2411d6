"""Search of a whole catalogue is scoring every document and putting all in order, to the bit."""

from dataclasses import replace

import bm25s
import numpy as np
import pytest
import torch

from rlcredit.estimators.utilities import Max
from rlcredit.retrieval import vectors
from rlcredit.retrieval.base import Documents, Encoded, Picked, Searcher
from rlcredit.retrieval.bm25 import BM25, terms_of
from rlcredit.retrieval.linear import LSA, TFIDF, Terms
from rlcredit.retrieval.measures import NDCG, ReciprocalRank, order
from rlcredit.retrieval.sparse import SparseIndex, searchable
from rlcredit.retrieval.top import Best, top
from rlcredit.rewards import ranking
from rlcredit.rewards.ranking import Ranking, Scope
from rlcredit.types import Prompt
from tests.retrieval.catalogue import catalogue, phrase_lists

DOCUMENTS = catalogue(700, seed=3)
TEXTS = [*phrase_lists(60, seed=5), "red red tent", "xyzzy", "", "the and of"]
ROWS = torch.arange(len(TEXTS))
RETRIEVERS = [BM25(), BM25(k3=None), TFIDF(), TFIDF(terms=Terms.char_ngrams), LSA(dimensions=16)]


@pytest.fixture(scope="module", params=RETRIEVERS, ids=repr)
def index(request, tmp_path_factory):
    return request.param.index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))


def brute_force(index, encoded, rows, depth):
    """Python's own sort of all scores: descending, equal ones by column."""
    columns, best = [], []
    for row in index.score(encoded, rows).tolist():
        ranked = sorted(range(len(row)), key=lambda column: (-row[column], column))[:depth]
        columns.append(ranked)
        best.append([row[column] for column in ranked])
    return torch.tensor(columns), torch.tensor(best)


@pytest.mark.parametrize("depth", [1, 10, 699, 700, 5000, None])
def test_search_is_brute_force_to_the_bit(index, depth):
    assert isinstance(index, Searcher)
    encoded = index.encode(TEXTS)
    columns, best = index.search(encoded, ROWS, depth=depth)
    expected, scores = brute_force(index, encoded, ROWS, depth)
    assert torch.equal(best, scores)
    retrieved = scores > -torch.inf
    assert retrieved.any()
    assert torch.equal(columns[retrieved], expected[retrieved])


def test_rows_may_be_some_in_any_order(index):
    encoded = index.encode(TEXTS)
    whole = index.search(encoded, ROWS, depth=7)
    some = torch.tensor([5, 63, 2, 2, 61])
    columns, best = index.search(encoded, some, depth=7)
    if isinstance(index, SparseIndex):
        assert torch.equal(best, whole[1][some])
        assert torch.equal(columns, whole[0][some])
    else:  # a dense product of fewer rows may have other last bits
        torch.testing.assert_close(best, whole[1][some], rtol=0, atol=1e-6)
        retrieved = best > -torch.inf
        assert torch.equal(columns[retrieved], whole[0][some][retrieved])
    nothing = index.search(encoded, some[:0], depth=7)
    assert [part.shape for part in nothing] == [(0, 7), (0, 7)]


def test_blocks_of_documents_find_what_one_block_finds(tmp_path, monkeypatch):
    index = LSA(dimensions=16).index(DOCUMENTS, cache=tmp_path)
    index = replace(index, vectors=(index.vectors * 8).round() / 8)  # sums are exact, and ties many
    encoded = index.encode(TEXTS)
    encoded = replace(encoded, rows=(encoded.rows * 8).round() / 8)
    for depth in (10, None):
        columns, best = brute_force(index, encoded, ROWS, depth)
        for size in (1, 7, 64, 699, 700):
            monkeypatch.setattr(vectors, "DOCUMENTS_AT_ONCE", size)
            found, scores = index.search(encoded, ROWS, depth=depth)
            assert torch.equal(found[:62], columns[:62])
            assert torch.equal(scores, best)


def test_a_few_texts_at_a_time_find_what_all_find(tmp_path, monkeypatch):
    index = BM25().index(DOCUMENTS, cache=tmp_path)
    encoded = index.encode(TEXTS)
    whole = index.search(encoded, ROWS, depth=9)
    monkeypatch.setattr("rlcredit.retrieval.sparse._PRODUCTS", 2100)
    for mine, all_ in zip(index.search(encoded, ROWS, depth=9), whole, strict=True):
        assert torch.equal(mine, all_)


def test_the_top_has_the_order_of_all_and_a_score_that_is_no_number_is_never_lost():
    rng = np.random.default_rng(0)
    scores = rng.integers(-3, 4, size=(20, 300)).astype(np.float32)
    scores[scores == -3] = -np.inf
    for row in scores:
        for depth in (1, 5, 299, 300, 400):
            best, columns = top(row, np.arange(300), depth)
            assert torch.equal(
                torch.from_numpy(columns), order(torch.from_numpy(row)[None], depth=depth)[0]
            )
            assert (row[columns] == best).all()
    scores[0, 150] = np.nan
    assert np.isnan(top(scores[0], np.arange(300), 2)[0][0])
    best = Best(depth=2, num_rows=1)
    for first in range(0, 300, 50):
        best.add(torch.from_numpy(scores[:1, first : first + 50]), first)
    assert best.found[0][0, 0] == 150


def test_a_bm25_index_is_that_of_bm25s_to_the_bit(tmp_path):
    texts = (*DOCUMENTS.texts[:-2], "red red red tent", "")
    documents = searchable(Documents(ids=DOCUMENTS.ids, texts=texts))
    model = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
    tokens = [terms_of(text) for text in documents.texts]
    model.index(tokens, create_empty_token=False, show_progress=False)
    index = BM25().index(documents, cache=tmp_path)
    assert list(index.bag.vocabulary) == sorted(model.vocab_dict)
    ours = index.weights.tocsc()
    for term, number in index.bag.vocabulary.items():
        theirs = slice(*model.scores["indptr"][model.vocab_dict[term] :][:2])
        own = slice(*ours.indptr[number:][:2])
        assert (ours.indices[own] == model.scores["indices"][theirs]).all()
        assert (ours.data[own] == model.scores["data"][theirs]).all()


def prompts(number):
    return [
        Prompt(prompt_id=f"q{i}", text="", query="", relevance={DOCUMENTS.ids[7 * i]: 3})
        for i in range(number)
    ]


@pytest.mark.parametrize("measure", [NDCG(), ReciprocalRank()], ids=lambda m: m.name)
def test_prompts_that_search_a_large_catalogue_together_get_what_each_gets_alone(
    index, measure, monkeypatch
):
    asked = [prompt for prompt in prompts(5) for _ in range(len(TEXTS))], TEXTS * 5
    reward = Ranking(measure=measure, utility=Max(), scope=Scope.catalogue)
    alone = reward.bind(index)
    values, found = alone(*asked), alone.run(*asked, depth=6)
    searches = []
    search = type(index).search

    def noted(self, encoded, rows, *, depth):
        searches.append(len(rows))
        return search(self, encoded, rows, depth=depth)

    monkeypatch.setattr(type(index), "search", noted)
    monkeypatch.setattr(ranking, "DOCUMENTS_AT_ONCE", 100)
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 100 * 150)
    together = reward.bind(index)
    torch.testing.assert_close(together(*asked), values, rtol=0, atol=1e-6)
    assert searches == [150, 150, 5 * len(set(TEXTS)) - 300]
    for mine, theirs in zip(together.run(*asked, depth=6), found, strict=True):
        assert [document for document, _ in mine] == [document for document, _ in theirs]


def test_a_text_that_a_shared_search_fails_on_is_named_with_its_prompt(tmp_path, monkeypatch):
    index = LSA(dimensions=16).index(DOCUMENTS, cache=tmp_path)
    monkeypatch.setattr(ranking, "DOCUMENTS_AT_ONCE", 100)

    def spoilt(texts):
        encoded = index.embed(texts)
        rows = encoded.rows.masked_fill(torch.tensor([t == "boots" for t in texts])[:, None], 3e38)
        return Encoded(known=encoded.known, rows=rows * 10)

    reward = Ranking(measure=NDCG(), utility=Max(), scope=Scope.catalogue)
    bound = reward.bind(replace(index, embed=spoilt))
    with pytest.raises(RuntimeError, match=r"boots(.|\n)*'q1'|'q1'(.|\n)*boots"):
        bound(prompts(2), ["tent", "boots"])


def test_picked_texts_are_read_one_by_one():
    picked = Picked(texts=("a", "b", "c"), rows=(2, 0))
    assert (list(picked), len(picked), picked[0], picked[-1]) == (["c", "a"], 2, "c", "a")
    assert (picked[:1], picked[5:]) == (["c"], [])
    documents = Documents(ids=("x", "y"), texts=picked)
    assert documents.text("y") == "a"
