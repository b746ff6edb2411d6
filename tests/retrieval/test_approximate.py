import logging
import shutil
import sys
from dataclasses import replace

import pytest
import torch

from rlcredit.estimators.utilities import Max
from rlcredit.retrieval.approximate import HNSW, IVF, faiss
from rlcredit.retrieval.base import Encoded, Index, Retriever, Searcher
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.linear import LSA
from rlcredit.retrieval.measures import NDCG, ReciprocalRank
from rlcredit.retrieval.store import stored_vectors
from rlcredit.rewards.ranking import Ranking, Scope
from rlcredit.types import Prompt
from tests.full_disk import full_disk
from tests.retrieval.catalogue import catalogue, phrase_lists

DOCUMENTS = catalogue(3000, seed=4)
TEXTS = [*phrase_lists(40, seed=8), "", "xyzzy"]


class Projected(Dense):
    """LSA's vectors, kept as a sentence encoder's are."""

    def index(self, documents, *, cache):
        made = LSA(dimensions=16).index(documents, cache=cache)
        return replace(made, encoding="projection")


KINDS = [HNSW(dense=Projected()), IVF(dense=Projected())]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: type(kind).__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def built(kind, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return kind.index(DOCUMENTS, cache=cache), cache


def test_the_first_hundred_of_exact_search_are_found(built, caplog):
    index, _ = built
    assert isinstance(index.kind, Retriever)
    for protocol in (Index, Searcher):
        assert isinstance(index, protocol)
    with caplog.at_level(logging.INFO, logger="rlcredit"):
        index.report(DOCUMENTS)
    (record,) = caplog.records
    assert "over 3000 documents: recall@100 " in record.message
    assert float(record.message.rsplit(" ", 1)[1]) >= 0.99


def test_a_search_that_looks_everywhere_is_exact_search(kind, built):
    index, _ = built
    wide = replace(kind, ef_search=3000) if isinstance(kind, HNSW) else replace(kind, probes=3000)
    index = replace(index, kind=wide)
    prompts = [
        Prompt(prompt_id=f"q{i}", text="", query="", relevance={DOCUMENTS.ids[i]: 3})
        for i in (0, 1500)
    ]
    texts = [*TEXTS[:6], *TEXTS[-2:]]
    pairs = [(prompt, text) for prompt in prompts for text in texts]
    asked = [p for p, _ in pairs], [t for _, t in pairs]
    for measure in (NDCG(), ReciprocalRank(cutoff=500)):
        ranking = Ranking(measure=measure, utility=Max(), scope=Scope.catalogue)
        near, exact = ranking.bind(index), ranking.bind(index.exact)
        torch.testing.assert_close(near(*asked), exact(*asked), rtol=0, atol=1e-5)
    found, expected = (bound.run(*asked, depth=7) for bound in (near, exact))
    for mine, theirs in zip(found, expected, strict=True):
        assert [d for d, _ in mine] == [d for d, _ in theirs]
    assert found[-1] == found[-2] == []


def test_without_a_cutoff_as_deep_as_the_setting_says(built):
    index, _ = built
    index = replace(index, kind=replace(index.kind, depth=20))
    prompt = Prompt(prompt_id="q", text="", query="", relevance={DOCUMENTS.ids[0]: 3})
    bound = Ranking(measure=ReciprocalRank(), utility=Max()).bind(index)
    ranked, _ = bound.ranked([prompt] * 3, TEXTS[:3])
    assert ranked.shape == (3, 3000)
    assert (bound([prompt] * len(TEXTS), TEXTS) > 0).float().mean() < 0.5
    columns, _ = index.search(index.encode(TEXTS), torch.arange(3), depth=None)
    assert columns.shape == (3, 20)


def test_a_pool_is_scored_exactly(built):
    index, _ = built
    pool = DOCUMENTS.ids[::40]
    prompt = Prompt(prompt_id="q", text="", query="", relevance={pool[0]: 3}, pool=pool)
    asked = [prompt] * len(TEXTS), TEXTS
    ranking = Ranking(measure=NDCG(), utility=Max())
    assert torch.equal(ranking.bind(index)(*asked), ranking.bind(index.exact)(*asked))


def test_the_file_is_read_back_and_keyed_by_all_it_depends_on(kind, built, tmp_path, monkeypatch):
    index, cache = built
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    narrow = {"ef_search": 7} if isinstance(kind, HNSW) else {"probes": 1}
    other = {"links": 8} if isinstance(kind, HNSW) else {"clusters": 5}

    def unwanted(self, exact):
        raise AssertionError("built again")

    with monkeypatch.context() as patched:
        patched.setattr(type(kind), "build", unwanted)
        again = kind.index(DOCUMENTS, cache=tmp_path)
        wide = replace(kind, **narrow).index(DOCUMENTS, cache=tmp_path)
        with pytest.raises(AssertionError, match="built again"):
            replace(kind, **other).index(DOCUMENTS, cache=tmp_path)
    rows = torch.arange(len(TEXTS))
    mine, theirs = (one.search(one.encode(TEXTS), rows, depth=50) for one in (again, index))
    assert torch.equal(mine[0], theirs[0])
    assert torch.equal(mine[1], theirs[1])
    assert again.digest == index.digest
    assert len({again.digest, wide.digest, index.exact.digest}) == 3


def test_an_index_is_what_faiss_s_own_constructors_make(kind, built):
    library, vectors = faiss(), built[0].exact.vectors.numpy()
    if isinstance(kind, HNSW):
        by_hand = library.IndexHNSWFlat(16, kind.links, library.METRIC_INNER_PRODUCT)
        by_hand.hnsw.efConstruction = kind.ef_construction
    else:
        centres = library.IndexFlatIP(16)  # as many as 39 documents each leave room for
        by_hand = library.IndexIVFFlat(centres, 16, 3000 // 39, library.METRIC_INNER_PRODUCT)
    threads = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    by_hand.train(vectors)
    by_hand.add(vectors)
    library.omp_set_num_threads(threads)
    mine, theirs = (library.serialize_index(one) for one in (built[0].graph, by_hand))
    assert mine.tobytes() == theirs.tobytes()


def test_too_few_found_is_a_warning_with_the_setting_to_raise(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        IVF(dense=Projected(), probes=1).index(DOCUMENTS, cache=tmp_path)
    assert "raise retriever.probes, or use exact search" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "flipped", "no record", "empty record", "another"])
def test_a_damaged_index_is_set_aside_and_built_anew(damage, tmp_path, caplog):
    small, kind = catalogue(60), IVF(dense=Projected())
    first = kind.index(small, cache=tmp_path)
    (path,) = (tmp_path / "indexes").glob("*.faiss")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-9])
    elif damage == "flipped":
        content[-40] ^= 1
        path.write_bytes(content)
    elif damage == "no record":
        path.with_suffix(".json").unlink()
    elif damage == "empty record":
        path.with_suffix(".json").write_text("{}")
    else:
        kind.index(catalogue(50), cache=tmp_path / "other")
        for suffix in (".faiss", ".json"):
            (found,) = (tmp_path / "other" / "indexes").glob(f"*{suffix}")
            shutil.copy(found, path.with_suffix(suffix))
    with caplog.at_level(logging.WARNING):
        again = kind.index(small, cache=tmp_path)
    assert "is damaged" in caplog.text
    assert path.with_suffix(".damaged").exists()
    assert first.graph.ntotal == again.graph.ntotal == 60


def test_a_disk_that_is_full_while_an_index_is_written_costs_the_file_alone(tmp_path, caplog):
    small, kind = catalogue(400), HNSW(dense=Projected())
    with full_disk(20_000), caplog.at_level(logging.WARNING):
        index = kind.index(small, cache=tmp_path)
        vectors = stored_vectors(
            tmp_path / "embeddings", "name", (400, 16), lambda rows: index.exact.vectors[rows]
        )
    assert "the index could not be stored" in caplog.text
    assert "the embeddings could not be stored" in caplog.text
    assert torch.equal(vectors, index.exact.vectors)
    assert index.recall(TEXTS) > 0.9
    for folder in ("indexes", "embeddings"):
        assert [*(tmp_path / folder).iterdir()] == []
    assert kind.index(small, cache=tmp_path).graph.ntotal == 400


@pytest.mark.parametrize("obstacle", ["a file", "no reading", "no renaming"])
def test_a_cache_folder_that_cannot_be_used_costs_the_files_alone(obstacle, tmp_path, caplog):
    small, kind = catalogue(60), IVF(dense=Projected())
    cache, rows = tmp_path / "cache", torch.rand(60, 16)
    name = cache / "embeddings" / "name.safetensors"
    if obstacle == "a file":
        cache.write_text("")
    elif obstacle == "no reading":
        name.mkdir(parents=True)
    else:
        name.parent.mkdir(parents=True)
        name.write_text("damaged")
        name.with_suffix(".damaged").mkdir()
    with caplog.at_level(logging.WARNING):
        vectors = stored_vectors(cache / "embeddings", "name", (60, 16), lambda part: rows[part])
        assert kind.index(small, cache=cache).graph.ntotal == 60
    assert torch.equal(vectors, rows)
    said = {
        "a file": "could not be stored",
        "no reading": "name.safetensors cannot be read",
        "no renaming": "cannot be set aside",
    }
    assert said[obstacle] in caplog.text


def test_texts_of_another_dimension_are_refused(built):
    index, _ = built
    foreign = Encoded(known=torch.ones(1, dtype=torch.bool), rows=torch.ones(1, 7))
    for one in (index, index.exact):
        with pytest.raises(
            ValueError, match="7 dimensions cannot be compared with documents of 16"
        ):
            one.score(foreign, torch.tensor([0]))
    with pytest.raises(ValueError, match="7 dimensions cannot be compared with documents of 16"):
        index.search(foreign, torch.tensor([0]), depth=3)


def test_settings_that_cannot_work_are_refused():
    for settings in ({"links": 0}, {"ef_search": 0}, {"depth": 0}):
        with pytest.raises(ValueError, match="is 1 or more"):
            HNSW(dense=Dense(), **settings)
    with pytest.raises(ValueError, match="clusters=0, but it is 1 or more"):
        IVF(dense=Dense(), clusters=0)


def test_without_faiss_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(
        RuntimeError, match=r"pip install 'rlcredit\[train\]', or .*retriever=minilm"
    ):
        faiss()


def test_vectors_are_made_part_by_part_and_gone_on_with_after_a_kill(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("rlcredit.retrieval.store._PART", 10)
    monkeypatch.setattr("rlcredit.retrieval.store._SECONDS_BETWEEN_REPORTS", 0.0)
    whole = torch.randn(35, 4, generator=torch.Generator().manual_seed(0))
    asked = []

    def make(rows, *, last=35):
        if rows.stop > last:
            raise KeyboardInterrupt
        asked.append(rows.start)
        return whole[rows]

    with pytest.raises(KeyboardInterrupt):
        stored_vectors(tmp_path, "name", (35, 4), lambda rows: make(rows, last=20))
    assert asked == [0, 10]
    (tmp_path / "name.parts" / "10.safetensors").write_bytes(b"cut")
    with caplog.at_level(logging.INFO, logger="rlcredit"):
        assert torch.equal(stored_vectors(tmp_path, "name", (35, 4), make), whole)
    assert asked == [0, 10, 10, 20, 30]
    assert "10 of 35 texts were encoded by an earlier run" in caplog.text
    assert "10.safetensors is damaged" in caplog.text
    assert "encoded 30 of 35 texts, " in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["name.safetensors"]
    assert torch.equal(stored_vectors(tmp_path, "name", (35, 4), make), whole)
    assert asked == [0, 10, 10, 20, 30]


def test_what_is_stored_may_be_read_by_whom_the_umask_allows(tmp_path):
    cache, small = tmp_path / "cache", catalogue(400)
    index = HNSW(dense=Projected()).index(small, cache=cache)
    vectors = index.exact.vectors
    stored_vectors(cache / "embeddings", "name", (400, 16), lambda rows: vectors[rows])
    (tmp_path / "ordinary").touch()
    modes = {path.stat().st_mode for path in cache.rglob("*.*") if path.is_file()}
    assert modes == {(tmp_path / "ordinary").stat().st_mode}


def test_stored_vectors_are_mapped_and_not_read_into_memory(tmp_path):
    stored_vectors(tmp_path, "name", (5, 4), lambda rows: torch.ones(5, 4)[rows])
    vectors = stored_vectors(tmp_path, "name", (5, 4), lambda rows: torch.zeros(5, 4)[rows])
    with open("/proc/self/maps") as maps:
        assert str(tmp_path / "name.safetensors") in maps.read()
    assert vectors.sum() == 20
