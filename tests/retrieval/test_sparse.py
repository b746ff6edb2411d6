import math
from collections import Counter
from dataclasses import replace

import bm25s
import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from rlcredit.retrieval.base import Documents, Index, Retriever
from rlcredit.retrieval.bm25 import BM25, terms_of
from rlcredit.retrieval.linear import LSA, TFIDF, Terms
from tests.retrieval.catalogue import catalogue, phrase_lists

RETRIEVERS = [BM25(), TFIDF(), TFIDF(terms=Terms.char_ngrams), LSA(dimensions=16)]
every_retriever = pytest.mark.parametrize("retriever", RETRIEVERS, ids=repr)
DOCUMENTS = catalogue()
TEXTS = [*phrase_lists(40), "red red red tent", "café", "xyzzy", "", " , ", "the and of", "☃ 1"]
ALL = torch.arange(len(TEXTS))


@pytest.fixture(scope="module", params=RETRIEVERS, ids=repr)
def index(request, tmp_path_factory):
    return request.param.index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))


def scores(index, texts=TEXTS, documents=None):
    return index.score(index.encode(texts), torch.arange(len(texts)), documents)


def test_bm25_equals_bm25s_for_other_constants_too(tmp_path):
    for k1, b in [(1.5, 0.75), (0.9, 0.4), (0.0, 0.0)]:
        index = BM25(k1=k1, b=b, k3=None).index(DOCUMENTS, cache=tmp_path)
        model = bm25s.BM25(k1=k1, b=b)
        model.index([terms_of(text) for text in DOCUMENTS.texts], show_progress=False)
        column = [index.document_ids.index(i) for i in DOCUMENTS.ids]
        for text, row in zip(TEXTS[:42], scores(index), strict=False):
            theirs = torch.from_numpy(model.get_scores(terms_of(text)))
            ours = row[column]
            assert torch.equal(ours > -torch.inf, theirs > 0)
            torch.testing.assert_close(ours[theirs > 0], theirs[theirs > 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k3", [0.0, 1.2, 8.0, None])
def test_bm25_is_a_double_loop_over_query_terms_and_documents(tmp_path, k3):
    texts = ["red red red tent", "tent", "red, red, blue tent, the red", "lamp lamp lamp lamp"]
    index = BM25(k3=k3).index(DOCUMENTS, cache=tmp_path)
    bags = {i: Counter(terms_of(t)) for i, t in zip(DOCUMENTS.ids, DOCUMENTS.texts, strict=True)}
    mean = sum(bag.total() for bag in bags.values()) / len(bags)
    for text, row in zip(texts, scores(index, texts), strict=True):
        for document, found in zip(index.document_ids, row.tolist(), strict=True):
            bag, expected = bags[document], 0.0
            for term, qtf in Counter(terms_of(text)).items():
                having = sum(term in other for other in bags.values())
                idf = math.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
                length = 1.5 * (1 - 0.75 + 0.75 * bag.total() / mean)
                weight = qtf if k3 is None else qtf * (k3 + 1) / (qtf + k3)
                expected += weight * idf * bag[term] / (bag[term] + length)
            assert max(found, 0.0) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "retriever", [BM25(), TFIDF(), TFIDF(terms=Terms.char_ngrams), LSA(dimensions=16)], ids=repr
)
def test_repeating_a_word_changes_no_score_and_linear_counting_changes_it(retriever, tmp_path):
    index = retriever.index(DOCUMENTS, cache=tmp_path)
    once, again = scores(index, ["red tent", "red tent red, Red"])
    assert torch.equal(once, again)
    linear = replace(retriever, k3=None).index(DOCUMENTS, cache=tmp_path)
    assert linear.linear is linear
    assert not torch.allclose(*scores(linear, ["red tent", "red tent red, Red"]))
    assert torch.equal(scores(index.linear, TEXTS), scores(linear, TEXTS))
    assert len({index.digest, index.linear.digest, linear.digest}) == 3


@pytest.mark.parametrize("k3", [-0.1, math.nan, math.inf])
def test_a_saturation_below_0_or_not_finite_is_refused(k3):
    for retriever in (BM25, TFIDF, LSA):
        with pytest.raises(ValueError, match=f"k3={k3}"):
            retriever(k3=k3)


def test_tfidf_is_scikit_learns_cosine(tmp_path):
    index = TFIDF(k3=None).index(DOCUMENTS, cache=tmp_path)
    vectorizer = TfidfVectorizer()
    documents = vectorizer.fit_transform(DOCUMENTS.texts)
    theirs = (vectorizer.transform(TEXTS) @ documents.T).toarray()
    column = [index.document_ids.index(i) for i in DOCUMENTS.ids]
    ours = scores(index)[:, column]
    np.testing.assert_allclose(ours.clamp(min=0).numpy(), theirs, atol=1e-5)
    assert torch.equal(ours > -torch.inf, torch.from_numpy(theirs > 0))


def test_char_ngrams_find_a_misspelt_word(tmp_path):
    documents = Documents(ids=("a", "b"), texts=("waterproof tent", "kitchen lamp"))
    index = TFIDF(terms=Terms.char_ngrams).index(documents, cache=tmp_path)
    best = scores(index, ["watreproof"])[0]
    assert index.document_ids[int(best.argmax())] == "a"
    assert not TFIDF().index(documents, cache=tmp_path).encode(["watreproof"]).known


def test_lsa_keeps_the_leading_singular_directions(tmp_path):
    tfidf = TFIDF().index(DOCUMENTS, cache=tmp_path)
    dense = torch.from_numpy(tfidf.weights.toarray()).double()
    _, _, axes = torch.linalg.svd(dense, full_matrices=False)
    wanted = torch.nn.functional.normalize(dense @ axes[:5].T, dim=1)
    found = LSA(dimensions=5).index(DOCUMENTS, cache=tmp_path).vectors.double()
    cosines = (wanted @ wanted.T - found @ found.T).abs()
    assert cosines.mean() < 0.02


def test_retrievers_and_indexes_keep_their_protocols(index):
    assert isinstance(index, Index)
    assert all(isinstance(retriever, Retriever) for retriever in RETRIEVERS)
    assert list(index.document_ids) == sorted(DOCUMENTS.ids, reverse=True)


def test_a_text_without_a_known_word_retrieves_nothing(index):
    encoded = index.encode(["red", "", " , ", "☃", "ẞẞẞẞ"])
    assert encoded.known.tolist() == [True, False, False, False, False]
    assert (index.score(encoded, torch.arange(1, 5)) == -torch.inf).all()
    assert (index.score(encoded, torch.tensor([0])) > -torch.inf).any()


def test_a_batch_scores_like_its_texts_alone(index):
    together = scores(index)
    for i, text in enumerate(TEXTS):
        torch.testing.assert_close(scores(index, [text])[0], together[i], rtol=0, atol=1e-5)


def test_scores_of_some_documents_are_columns_of_all(index):
    some = torch.tensor([7, 3, 3, 250])
    torch.testing.assert_close(
        scores(index)[:, some], scores(index, documents=some), rtol=0, atol=1e-6
    )
    encoded = index.encode(TEXTS)
    rows = torch.tensor([5, 0])
    torch.testing.assert_close(index.score(encoded, rows), scores(index)[rows], rtol=0, atol=1e-6)


def test_word_order_does_not_change_a_bag_of_words_score_by_a_bit(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for retriever in (BM25(), TFIDF()):
        index = retriever.index(DOCUMENTS, cache=tmp_path)
        for text in TEXTS[:40]:
            parts = text.split(", ")
            mixed = [parts[i] for i in torch.randperm(len(parts), generator=generator).tolist()]
            assert torch.equal(scores(index, [", ".join(mixed)]), scores(index, [text]))


@every_retriever
def test_the_digest_tells_documents_and_settings_apart(retriever, tmp_path):
    def made(ids, texts):
        return retriever.index(Documents(ids=ids, texts=texts), cache=tmp_path).digest

    texts = DOCUMENTS.texts
    digests = {
        made(DOCUMENTS.ids, texts),
        made(DOCUMENTS.ids, (*texts[:-1], texts[-1] + " red")),
        made((*DOCUMENTS.ids[:-1], "other"), texts),
    }
    assert len(digests) == 3
    assert made(DOCUMENTS.ids[::-1], texts[::-1]) in digests
    others = [BM25(k1=1.2), BM25(b=0.5), TFIDF(), LSA(dimensions=15), LSA(dimensions=16, seed=1)]
    assert digests.isdisjoint(
        other.index(DOCUMENTS, cache=tmp_path).digest for other in others if other != retriever
    )


@every_retriever
def test_documents_without_any_text_are_refused(retriever, tmp_path):
    for documents in (Documents(ids=(), texts=()), Documents(ids=("a", "b"), texts=("", " "))):
        with pytest.raises(ValueError, match="documents has a text"):
            retriever.index(documents, cache=tmp_path)


@every_retriever
def test_a_document_without_text_is_never_above_one_that_matches(retriever, tmp_path):
    markup = [
        "<b>red</b>\x00\x07 tent",
        "",
        "blue &amp; green\tlamp",
        "red wool jacket",
        "steel",
        "soft",
    ]
    documents = Documents(ids=tuple("abcdef"), texts=tuple(markup))
    if isinstance(retriever, LSA):
        retriever = LSA(dimensions=4)
    index = retriever.index(documents, cache=tmp_path)
    found = dict(zip(index.document_ids, scores(index, ["red tent"])[0].tolist(), strict=True))
    assert found["a"] == max(found.values())
    assert found["b"] <= 0


def test_settings_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="k1=-1"):
        BM25(k1=-1.0)
    with pytest.raises(ValueError, match=r"b=1\.5"):
        BM25(b=1.5)
    with pytest.raises(ValueError, match="dimensions=0"):
        LSA(dimensions=0)
    with pytest.raises(
        ValueError, match=r"dimensions=96 for 3 documents with .*retriever\.dimensions"
    ):
        LSA().index(catalogue(3), cache=tmp_path)


def test_rows_of_another_index_are_refused(tmp_path):
    wide, narrow = (LSA(dimensions=n).index(DOCUMENTS, cache=tmp_path) for n in (16, 8))
    with pytest.raises(ValueError, match=r"texts of 8 dimensions .* documents of 16"):
        wide.score(narrow.encode(["red"]), torch.tensor([0]))
