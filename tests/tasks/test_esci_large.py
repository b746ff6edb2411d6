"""A generated catalogue of any size, whose texts lie in a mapped file."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from rlcredit.identity import identify
from rlcredit.retrieval.base import Documents
from rlcredit.tasks import ESCI
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.generated import esci_catalogue, esci_distractors
from rlcredit.tasks.generated.esci_words import WORDS
from rlcredit.tasks.pools import nearest
from rlcredit.tasks.settings import Source
from rlcredit.tasks.stored_texts import StoredTexts, stored_texts
from rlcredit.text.words import words

SIZE = 9000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def large(folder):
    return ESCI(size=SIZE, cache=str(folder)).load()


def test_the_products_that_queries_are_about_are_all_in_it_and_the_queries_the_same(large, esci):
    assert len(large.documents.ids) == len(large.documents.texts) == SIZE
    texts = dict(zip(large.documents.ids, large.documents.texts, strict=True))
    own = dict(zip(esci.documents.ids, esci.documents.texts, strict=True))
    assert own.items() < texts.items()
    assert (large.train, large.validation, large.test) == (esci.train, esci.validation, esci.test)
    assert large.documents.ids == tuple(sorted(set(large.documents.ids)))
    assert all(re.fullmatch(r"B0[0-9A-Z]{8}", i) for i in large.documents.ids)
    assert large.counts["products"] == SIZE
    assert large.digest != esci.digest


def test_the_default_size_is_the_default(esci):
    assert esci_catalogue.SIZE == 1920
    assert ESCI(size=1920).load().digest == esci.digest
    assert "size" not in identify(ESCI())
    assert ESCI().content() == (esci_catalogue.VERSION,)
    assert identify(ESCI(cache="elsewhere")) == identify(ESCI())
    digests = {str(data_identity(ESCI(size=size))) for size in (None, SIZE, SIZE + 1)}
    assert len(digests) == 3


def test_texts_lie_in_a_mapped_file_that_the_next_load_takes(large, folder, monkeypatch):
    assert isinstance(large.documents.texts, StoredTexts)
    files = sorted(path.suffix for path in (folder / "catalogues").iterdir())
    assert files == [".arrow", ".json"]
    monkeypatch.setattr(esci_distractors, "_texts", lambda *_: pytest.fail("made again"))
    before = pa.total_allocated_bytes()
    again = esci_distractors.with_distractors(
        ESCI().load().documents, size=SIZE, seed=0, folder=folder / "catalogues"
    )
    assert again.ids == large.documents.ids
    assert pa.total_allocated_bytes() - before < 100_000  # the texts have 2 million characters
    assert list(again.texts) == list(large.documents.texts)


def test_a_seed_makes_its_own_distractors_and_always_the_same_ones(large, tmp_path):
    assert ESCI(size=SIZE, cache=str(tmp_path / "a")).load().digest == large.digest
    other = ESCI(size=SIZE, seed=1, cache=str(tmp_path)).load()
    assert not set(other.documents.ids) & set(large.documents.ids)


def test_words_follow_the_law_and_lengths_its_bounds(large, esci):
    distractors = [
        text
        for i, text in zip(large.documents.ids, large.documents.texts, strict=True)
        if i not in set(esci.documents.ids)
    ]
    lengths = [len(text.split()) for text in distractors]
    assert min(lengths) >= 5
    assert np.median(lengths) == pytest.approx(36, abs=2)
    counts = Counter(word for text in distractors for word in words(text))
    ranked = [count for _, count in counts.most_common(300)]
    expected = [1 / (rank + 2.7) for rank in range(300)]
    slope = np.polyfit(np.log(expected[:100]), np.log(ranked[:100]), 1)[0]
    assert slope == pytest.approx(1, abs=0.15)
    assert len(counts) > 40_000


def test_no_distractor_names_a_category_a_use_or_what_a_query_says(large, esci):
    own = set(esci.documents.ids)
    said = Counter(
        word
        for i, text in zip(large.documents.ids, large.documents.texts, strict=True)
        if i not in own
        for word in words(text)
    )
    barred = [noun for nouns in WORDS.categories for noun in nouns]
    barred += [text for who in WORDS.personas for text in (*who.use, *who.surfaces)]
    assert not {word for text in barred for word in words(text)} & said.keys()
    for feature, *_ in WORDS.features:
        assert said[words(feature)[0]] > 0
    for prompt in large.test:
        assert set(prompt.relevance) <= own


@pytest.mark.parametrize("source", [Source.path, Source.hub])
def test_only_a_generated_catalogue_has_a_size(source):
    with pytest.raises(ValueError, match=r"dataset.size=5000.*set dataset.max_documents"):
        ESCI(source=source, path="x", size=5000)


def test_a_size_below_that_of_the_queries_products_is_refused():
    with pytest.raises(ValueError, match=r"dataset.size=1919.*about 1920 products"):
        ESCI(size=1919)


def test_a_damaged_file_is_set_aside_and_made_again(tmp_path, caplog):
    def made():
        return stored_texts(tmp_path / "x.arrow", 3, lambda: [["a", "é"], ["", "z" * 50][:1]])

    assert list(made()) == ["a", "é", ""]
    file = tmp_path / "x.arrow"
    whole = file.read_bytes()
    for damaged in (whole[:-20], whole.replace("é".encode(), b"\xc3\xa8"), b""):
        file.unlink()
        file.write_bytes(damaged)
        assert list(made()) == ["a", "é", ""]
        assert "x.damaged" in caplog.text
        caplog.clear()
        assert file.read_bytes() == whole
    texts = made()
    assert (texts[1], texts[-1], texts[0:2], len(texts)) == ("é", "", ["a", "é"], 3)
    with pytest.raises(IndexError):
        texts[3]


def test_another_number_of_texts_is_a_damaged_file(tmp_path, caplog):
    stored_texts(tmp_path / "x.arrow", 2, lambda: [["a", "b"]])
    assert len(stored_texts(tmp_path / "x.arrow", 1, lambda: [["a"]])) == 1
    assert "it holds 2 texts, not 1" in caplog.text


def test_ids_that_meet_are_drawn_again(esci, monkeypatch, tmp_path):
    monkeypatch.setattr(esci_distractors, "_NUM_IDS", 4000)
    own = Documents(ids=("B000000001", "B00000000Z"), texts=("one", "two"))
    made = esci_distractors.with_distractors(own, size=3900, seed=0, folder=tmp_path)
    assert len(set(made.ids)) == 3900
    assert (made.text("B000000001"), made.text("B00000000Z")) == ("one", "two")
    assert all(first < second for first, second in pairwise(made.ids))


@pytest.mark.parametrize("num", [1, 7, 60, 2500])
def test_the_nearest_are_those_of_the_whole_matrix_put_in_order(large, num, monkeypatch):
    texts = [*(prompt.query for prompt in large.test[:20]), "lamp leather", "", "xyzzy"]
    documents = list(large.documents.texts)[:2500]
    documents[40] = documents[1700]
    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=words)
    columns = vectorizer.fit_transform(documents)
    similar = (vectorizer.transform(texts) @ columns.T).toarray()
    expected = np.argsort(similar, axis=1, kind="stable")[:, : -num - 1 : -1]
    monkeypatch.setattr("rlcredit.tasks.pools._CELLS", 7 * 2500)
    assert np.array_equal(nearest(texts, documents, num=num), expected)


def test_many_published_texts_are_mapped_and_the_set_is_the_same(
    esci_folder, published_esci, tmp_path, monkeypatch
):
    monkeypatch.setattr("rlcredit.tasks.stored_texts._IN_MEMORY", 100)
    monkeypatch.setattr("rlcredit.tasks.stored_texts._PART", 300)
    mapped = ESCI(source=Source.path, path=str(esci_folder), cache=str(tmp_path)).load()
    assert isinstance(mapped.documents.texts, StoredTexts)
    assert len(mapped.documents.texts.column.chunks) > 1
    assert mapped.digest == published_esci.digest
    assert list(mapped.documents.texts) == list(published_esci.documents.texts)
    assert mapped.documents.ids == published_esci.documents.ids
    assert isinstance(published_esci.documents.texts, tuple)
