import logging
import os
import signal
import sqlite3
import time
from dataclasses import replace

import pytest
import torch

from rlcredit.estimators.utilities import Max
from rlcredit.retrieval.base import Encoded
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.linear import LSA
from rlcredit.retrieval.measures import NDCG, Recall, ReciprocalRank
from rlcredit.rewards.caches import Cache, Rows
from rlcredit.rewards.disk import DiskCache
from rlcredit.rewards.engine import Plan
from rlcredit.rewards.ranking import Ranking, Scope
from rlcredit.types import Counts, Prompt
from tests.retrieval.catalogue import catalogue, phrase_lists

DOCUMENTS = catalogue(300)
TEXTS = [*phrase_lists(12), "", "xyzzy"]
GRADES = dict(zip(DOCUMENTS.ids, (3, 3, 2, 1), strict=False))
PROMPT = Prompt(prompt_id="q", text="", query="", relevance=GRADES, pool=DOCUMENTS.ids[:60])


def reward(index, *, measure=None, scope=Scope.pool, **cache):
    ranking = Ranking(measure=measure or NDCG(), utility=Max(), scope=scope, cache=Cache(**cache))
    return ranking.bind(index)


def disk_of(bound) -> DiskCache:
    disk = bound.engine.caches.rewards.disk
    assert disk is not None
    return disk


def num_rows(disk: DiskCache) -> int:
    return disk._connection.execute("SELECT count(*) FROM rows").fetchone()[0]


def ask(bound, prompt=PROMPT, texts=TEXTS):
    return bound([prompt] * len(texts), texts)


@pytest.fixture(scope="module")
def bm25(tmp_path_factory):
    return BM25().index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Dense vectors whose encodings are worth remembering."""
    made = LSA(dimensions=16).index(DOCUMENTS, cache=tmp_path_factory.mktemp("cache"))
    return replace(made, encoding="projection")


def test_what_was_computed_is_served_with_the_same_bits(bm25, dense, tmp_path):
    for index in (bm25, dense):
        plain = ask(reward(index, memory_mb=0))
        for settings in ({}, {"folder": str(tmp_path / index.digest), "memory_mb": 0}):
            bound = reward(index, **settings)
            first, again = ask(bound), ask(bound)
            assert torch.equal(first, plain)
            assert torch.equal(again, plain)
            assert bound.counts.remembered == len(TEXTS)
            assert bound.counts.asked == bound.counts.distinct == 2 * len(TEXTS)
    assert plain.count_nonzero() > 3


def test_without_memory_and_folder_nothing_is_remembered(bm25):
    bound = reward(bm25, memory_mb=0)
    ask(bound)
    ask(bound)
    assert bound.counts.remembered == 0
    assert len(bound.engine.caches.rewards) == 0


def test_a_mixed_call_computes_only_what_is_new(dense):
    bound = reward(dense)
    ask(bound, texts=TEXTS[:5])
    before = bound.counts
    values = ask(bound, texts=[*TEXTS[3:9], TEXTS[4], f"  {TEXTS[3]} "])
    new = bound.counts - before
    assert new == Counts(asked=8, distinct=6, remembered=2, texts=4)
    expected = ask(reward(dense, memory_mb=0))
    assert torch.equal(values, expected[[3, 4, 5, 6, 7, 8, 4, 3]])
    other = replace(PROMPT, prompt_id="other", pool=DOCUMENTS.ids[:90])
    before = bound.counts
    ask(bound, other, TEXTS[:11])
    assert bound.counts - before == Counts(asked=11, distinct=11, texts=11, remembered_texts=9)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": replace(PROMPT, relevance={**GRADES, DOCUMENTS.ids[7]: 3})},
        {"prompt": replace(PROMPT, relevance={**GRADES, DOCUMENTS.ids[3]: 2})},
        {"prompt": replace(PROMPT, pool=DOCUMENTS.ids[:61])},
        {"measure": NDCG(gains={3: 100, 2: 50, 1: 1})},
        {"measure": NDCG(cutoff=5)},
        {"measure": Recall()},
        {"measure": ReciprocalRank()},
        {"scope": Scope.catalogue},
        {"retriever": BM25(k1=0.9)},
    ],
    ids=str,
)
def test_a_reward_is_shared_only_where_all_it_depends_on_is_equal(bm25, change, tmp_path):
    folder = str(tmp_path / "cache")
    ask(reward(bm25, folder=folder))
    settings = {"retriever": BM25(), "prompt": PROMPT, "measure": NDCG(), "scope": Scope.pool}
    settings |= change
    retriever, prompt = settings.pop("retriever"), settings.pop("prompt")
    index = retriever.index(DOCUMENTS, cache=tmp_path)
    bound = reward(index, **settings, folder=folder)
    assert torch.equal(ask(bound, prompt), ask(reward(index, **settings), prompt))
    assert bound.counts.remembered == 0
    same = reward(bm25, folder=folder)
    ask(same, replace(PROMPT, prompt_id="another name", query="and query"))
    assert same.counts.remembered == len(TEXTS)


def test_memory_is_bounded_and_the_least_recently_used_go_first():
    rows = Rows(max_bytes=3 * (250 + 1 + 8))
    for text in "abc":
        rows.put([("k", text)], torch.tensor([[1.0, ord(text)]]))
    rows.get([("k", "a")])
    rows.put([("k", "d")], torch.tensor([[1.0, 100.0]]))
    known, found = rows.get([("k", text) for text in "abcd"])
    assert known.tolist() == [True, False, True, True]
    assert found[:, 1].tolist() == [97.0, 99.0, 100.0]
    assert len(rows) == 3


def test_the_memory_is_as_much_for_encodings_as_for_rewards():
    caches = Cache(memory_mb=3).open()
    assert caches.rewards.max_bytes == caches.encodings.max_bytes == 3 * 1024 * 1024


def test_what_an_encoder_says_of_a_text_is_remembered_with_its_vector(dense):
    def embed(texts):
        return Encoded(
            known=torch.tensor([text != "odd" for text in texts]),
            truncated=torch.tensor([text == "long" for text in texts]),
            rows=torch.arange(1.0, 33).view(2, 16)[[len(text) % 2 for text in texts]],
        )

    engine = reward(replace(dense, embed=embed)).engine
    texts = ["odd", "long", "plain"]
    for asked in (texts, texts[::-1], ["short", *texts]):
        found, fresh = engine.encode(asked), embed(asked)
        assert torch.equal(found.known, fresh.known)
        assert torch.equal(found.truncated, fresh.truncated)
        assert torch.equal(found.rows, fresh.rows)
    assert engine.counts == Counts(texts=10, remembered_texts=6, truncated=1)


def test_a_plan_of_some_pairs_asks_for_these_alone(bm25):
    prompts = [replace(PROMPT, prompt_id=str(i), pool=DOCUMENTS.ids[: 50 + i]) for i in range(3)]
    pairs = [(p, t) for p in prompts for t in TEXTS[:4]]
    plan = Plan.of([p for p, _ in pairs], [t for _, t in pairs])
    part = plan.only([1, 6, 7])
    assert [(part.prompts[p].prompt_id, part.texts[t]) for p, t in part.pairs] == [
        ("0", TEXTS[1]),
        ("1", TEXTS[2]),
        ("1", TEXTS[3]),
    ]


def test_the_next_run_and_a_run_at_the_same_time_read_what_one_run_kept(dense, tmp_path):
    folder = str(tmp_path / "cache")
    first, second = reward(dense, folder=folder), reward(dense, folder=folder)
    values = ask(first)
    assert torch.equal(ask(second), values)
    assert second.counts.remembered == len(TEXTS)
    third = reward(dense, measure=Recall(), folder=folder)
    ask(third)
    assert third.counts.remembered == 0
    assert third.counts.remembered_texts == len(TEXTS)


def garbage(path):
    path.write_bytes(b"no database" * 1000)


def cut(path):
    path.write_bytes(path.read_bytes()[:5000])


def flip(path):
    with sqlite3.connect(path) as connection:
        key, value = connection.execute("SELECT key, value FROM rows").fetchone()
        odd = bytes([value[0] ^ 1]) + value[1:]
        connection.execute("UPDATE rows SET value = ? WHERE key = ?", (odd, key))
    connection.close()


def text(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET value = CAST(value AS TEXT) || char(233)")
    connection.close()


def number(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET value = 7")
    connection.close()


def nothing(path):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE rows SET value = NULL")
    connection.close()


@pytest.mark.parametrize("damage", [garbage, cut, flip, text, number, nothing])
def test_a_damaged_file_is_set_aside_with_a_warning_and_begun_anew(bm25, damage, tmp_path, caplog):
    folder = tmp_path / "cache"
    bound = reward(bm25, folder=str(folder))
    values = ask(bound)
    disk_of(bound)._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    del bound
    damage(folder / "rows.sqlite")
    with caplog.at_level(logging.WARNING):
        again = reward(bm25, folder=str(folder))
        assert torch.equal(ask(again), values)
    assert "is damaged" in caplog.text
    assert (folder / "rows.damaged").exists()
    assert num_rows(disk_of(again)) == len(TEXTS)


def test_a_folder_that_cannot_be_used_is_named_with_the_remedy(bm25, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"file cannot be used .*set reward\.cache\.folder"):
        reward(bm25, folder=str(tmp_path / "file"))
    (tmp_path / "cache" / "rows.sqlite").mkdir(parents=True)
    with pytest.raises(OSError, match=r"cache cannot be used .*set reward\.cache\.folder"):
        reward(bm25, folder=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="memory_mb=-1"):
        Cache(memory_mb=-1)


def test_a_full_disk_costs_the_cache_and_not_the_run(bm25, tmp_path, caplog):
    bound = reward(bm25, folder=str(tmp_path / "cache"), memory_mb=0)
    disk_of(bound)._connection.execute("PRAGMA max_page_count = 4")
    many = phrase_lists(400, seed=9)
    with caplog.at_level(logging.WARNING):
        values = ask(bound, texts=many)
        ask(bound, texts=phrase_lists(400, seed=10))
    assert torch.equal(values, ask(reward(bm25), texts=many))
    assert len(caplog.records) == 1
    assert "disk is full" in caplog.text
    assert "the run goes on" in caplog.text


def write_until_killed(folder, name):
    disk = DiskCache(folder)
    for number in range(10**9):
        keys = [f"{name} {number} {i}".encode() for i in range(50)]
        disk.put({key: key * 3 for key in keys} | {b"shared": b"one value"})


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_two_processes_wrote_survives_their_kill(tmp_path):
    children = []
    for name in ("a", "b"):
        child = os.fork()
        if child == 0:
            try:
                write_until_killed(tmp_path, name)
            finally:
                os._exit(1)
        children.append(child)
    disk, deadline = DiskCache(tmp_path), time.monotonic() + 20
    while time.monotonic() < deadline and not all(
        disk.get([f"{name} 5 49".encode()]) for name in "ab"
    ):
        time.sleep(0.01)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    later = DiskCache(tmp_path)
    for name in "ab":
        keys = [f"{name} 5 {i}".encode() for i in range(50)]
        assert later.get(keys) == {key: key * 3 for key in keys}
    later.put({b"shared": b"another", b"new": b"value"})
    assert later.get([b"shared", b"new", b"missing"]) == {b"shared": b"one value", b"new": b"value"}
    assert num_rows(later) % 50 == 2


def test_vectors_that_are_no_numbers_are_neither_scored_nor_remembered(dense, tmp_path):
    def embed(texts):
        encoded = dense.embed(texts)
        encoded.rows[1:2] = torch.nan
        return encoded

    bound = reward(replace(dense, embed=embed))
    with pytest.raises(RuntimeError, match=r"vectors that are no numbers, on 1 texts"):
        ask(bound)
    assert len(bound.engine.caches.encodings) == 0
