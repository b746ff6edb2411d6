"""BM25 by other engines, over the same generated catalogue and queries as ``bench_catalogue``.

    python -m scripts.bench_bm25 --size 100000

Each engine gets the terms that :class:`rlcredit.retrieval.BM25` finds, in a process of its own.
"""

import argparse
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import bm25s
import torch

from rlcredit.retrieval import BM25
from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import terms_of
from rlcredit.retrieval.measures import order
from rlcredit.tasks import ESCI
from scripts.bench_catalogue import DEPTH, peak_gb, queries_of, timed
from scripts.bench_speed import store

Search = Callable[[Sequence[str]], list[list[str]]]
"""Ids of the first 100 documents of each query."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one engine costs: processor seconds, and gigabytes of 1e9 bytes at the peak."""

    engine: str
    documents: int
    queries: int
    build_s: float
    search_s: float
    peak_gb: float


def named(ids: Sequence[str], found: Sequence[Sequence[int]]) -> list[list[str]]:
    """The ids of documents that an engine knows by number."""
    return [[ids[number] for number in row] for row in found]


def by_terms(documents: Documents) -> Search:
    """This package: a product of sparse rows."""
    index = BM25().index(documents, cache=Path())

    def search(queries: Sequence[str]) -> list[list[str]]:
        encoded, found = index.encode(queries), list[list[str]]()
        for rows in torch.arange(len(queries)).split(128):
            found += named(index.document_ids, index.search(encoded, rows, depth=DEPTH)[0].tolist())
        return found

    return search


def by_all(documents: Documents) -> Search:
    """This package: every document scored, and all of them put in order."""
    index = BM25().index(documents, cache=Path())

    def search(queries: Sequence[str]) -> list[list[str]]:
        encoded, found = index.encode(queries), list[list[str]]()
        for rows in torch.arange(len(queries)).split(max(2**24 // len(documents.ids), 1)):
            ranked = order(index.score(encoded, rows), depth=DEPTH)
            found += named(index.document_ids, ranked.tolist())
        return found

    return search


def by_bm25s(documents: Documents, backend: str) -> Search:
    """``bm25s`` itself, from texts split into terms to its own ranking."""
    model = bm25s.BM25(k1=1.5, b=0.75, method="lucene", backend=backend)
    model.index([terms_of(text) for text in documents.texts], show_progress=False)

    def search(queries: Sequence[str]) -> list[list[str]]:
        terms = [terms_of(query) for query in queries]
        ranked: Any = model.retrieve(terms, k=DEPTH, show_progress=False, n_threads=0)
        return named(documents.ids, ranked.documents.tolist())

    search(queries_of(documents, 2))  # numba compiles
    return search


def by_sqlite(documents: Documents) -> Search:
    """SQLite's FTS5, in memory."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE found USING fts5(text, content='')")
    rows = enumerate(" ".join(terms_of(text)) for text in documents.texts)
    database.executemany("INSERT INTO found(rowid, text) VALUES (?, ?)", _plus_one(rows))
    sql = f"SELECT rowid FROM found WHERE found MATCH ? ORDER BY bm25(found) LIMIT {DEPTH}"

    def search(queries: Sequence[str]) -> list[list[str]]:
        found: list[list[int]] = []
        for query in queries:
            asked = " OR ".join(f'"{term}"' for term in terms_of(query))
            found.append([row - 1 for (row,) in database.execute(sql, (asked,))])
        return named(documents.ids, found)

    return search


def _plus_one(rows: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    return ((row + 1, text) for row, text in rows)


ENGINES: Mapping[str, Callable[[Documents], Search]] = {
    "rlcredit": by_terms,
    "rlcredit, every document": by_all,
    "bm25s, numpy": lambda documents: by_bm25s(documents, "numpy"),
    "bm25s, numba": lambda documents: by_bm25s(documents, "numba"),
    "SQLite FTS5": by_sqlite,
}


def main() -> None:
    """Measure engine by engine, print and store."""
    parser = argparse.ArgumentParser(description="Cost of BM25 engines.")
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--engine", help="one of them, in this process")
    parser.add_argument("--cache", default="outputs/cache")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/catalogue"))
    chosen = parser.parse_args()
    if chosen.engine:
        print(json.dumps(asdict(measured(chosen))), flush=True)
        return
    rows: list[dict[str, Any]] = []
    print("| engine | build, s | memory, GB | queries/s |\n|---|---|---|---|", flush=True)
    for engine in ENGINES:
        command = [sys.executable, "-m", "scripts.bench_bm25", "--engine", engine]
        command += ["--size", str(chosen.size), "--queries", str(chosen.queries)]
        command += ["--cache", chosen.cache]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        row = json.loads(said.splitlines()[-1])
        rows.append(row)
        rate = row["queries"] / row["search_s"]
        print(
            f"| {engine} | {row['build_s']:.0f} | {row['peak_gb']:.1f} | {rate:.0f} |", flush=True
        )
        store(chosen.out / f"bm25_{chosen.size}.json", rows)


def measured(chosen: argparse.Namespace) -> Row:
    """What an engine costs."""
    torch.set_num_threads(1)
    documents = ESCI(size=chosen.size, cache=chosen.cache).load().documents
    search, build_s = timed(lambda: ENGINES[chosen.engine](documents))
    queries = queries_of(documents, chosen.queries)
    _, search_s = timed(lambda: search(queries))
    return Row(
        engine=chosen.engine,
        documents=chosen.size,
        queries=chosen.queries,
        build_s=build_s,
        search_s=search_s,
        peak_gb=peak_gb(),
    )


if __name__ == "__main__":
    main()
