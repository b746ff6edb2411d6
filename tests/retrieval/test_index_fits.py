"""An index that does not fit is refused before anything is built."""

from dataclasses import replace

import pytest
import torch

from rlcredit.retrieval import memory
from rlcredit.retrieval.approximate import HNSW, IVF, faiss
from rlcredit.retrieval.bm25 import BM25, Corpus, terms_of
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.linear import LSA
from rlcredit.retrieval.memory import available, refuse_what_does_not_fit
from tests.retrieval.catalogue import catalogue

DOCUMENTS = catalogue(3000, seed=4)
CPU = torch.device("cpu")


class Projected(Dense):
    def index(self, documents, *, cache):
        return replace(LSA(dimensions=16).index(documents, cache=cache), encoding="projection")


@pytest.fixture
def room(monkeypatch):
    """Sets how many bytes are left."""
    return lambda left: monkeypatch.setattr(memory, "available", lambda device: left)


def test_what_fits_exactly_is_built_and_a_byte_more_is_refused(room):
    room(1000)
    refuse_what_does_not_fit("it", 1000)
    with pytest.raises(ValueError, match="it takes 1e-06 GB, and 1e-06 GB of cpu's memory are"):
        refuse_what_does_not_fit("it", 1001)


def test_an_approximate_index_is_refused_before_faiss_is_asked(room, tmp_path, monkeypatch):
    for kind in (HNSW(dense=Projected()), IVF(dense=Projected())):
        monkeypatch.setattr(type(kind), "build", lambda *_: pytest.fail("built"))
        room(kind.num_bytes(3000, 16) - 1)
        with pytest.raises(ValueError, match=r"over 3,000 vectors of 16 float32 numbers takes"):
            kind.index(DOCUMENTS, cache=tmp_path)


@pytest.mark.parametrize("links", [4, 32])
def test_the_arithmetic_is_the_size_of_faiss_s_own_file(links, tmp_path):
    exact = Projected().index(DOCUMENTS, cache=tmp_path)
    for kind in (HNSW(dense=Projected(), links=links), IVF(dense=Projected())):
        file = faiss().serialize_index(kind.build(exact))
        assert kind.num_bytes(3000, 16) == pytest.approx(len(file), rel=0.03)


def test_a_bm25_index_is_refused_by_the_number_of_its_words(room, tmp_path):
    said = len(Corpus.of(terms_of, DOCUMENTS.texts).ids.values)
    room(40 * said)
    BM25().index(DOCUMENTS, cache=tmp_path)
    room(40 * said - 1)
    with pytest.raises(ValueError, match=f"3,000 documents of {said:,} terms"):
        BM25().index(DOCUMENTS, cache=tmp_path)


def test_vectors_are_refused_before_a_text_is_encoded(room, tmp_path, monkeypatch):
    encoder = Encoder384()
    monkeypatch.setattr(Dense, "embedder", lambda self, role: encoder)
    room(4 * 3000 * 384 - 1)
    with pytest.raises(ValueError, match=r"3,000 vectors of 384 float32 numbers takes 0.00461 GB"):
        Dense().index(DOCUMENTS, cache=tmp_path)


class Encoder384:
    """Says how it is, and encodes nothing."""

    digest, device, num_dimensions = "d", CPU, 384

    def __call__(self, texts):
        raise AssertionError("encoded")


def test_a_control_group_lowers_what_is_left(monkeypatch, tmp_path):
    free = available(CPU)
    assert 0 < free < 2**50
    (tmp_path / "memory.max").write_text("3000\n")
    (tmp_path / "memory.current").write_text("1000\n")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    assert available(CPU) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert available(CPU) > 2000
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    assert available(CPU) >= free
