"""What a large catalogue costs: time and memory of indexes, queries a second, pools of all queries.

    python -m scripts.bench_catalogue                            all of it: hours
    python -m scripts.bench_catalogue --sizes 10000 --retrievers bm25,dense
    python -m scripts.bench_catalogue --threads 2
    python -m scripts.bench_catalogue --task-pools               what published queries' pools cost
    python -m scripts.bench_catalogue --encode 2000              how long MiniLM would take

The catalogues are generated (``dataset.size``). Each line is a process of its own, so that its
peak of resident memory, pages of mapped files included, is its own. The vectors are simulated:
sums of random vectors of a text's words, 384 numbers as MiniLM's, since a processor takes hours to
encode 1.2 million texts. Exact search is compared with scoring every document, approximate search
with exact search.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any
from zlib import crc32

import numpy as np
import torch
from scipy.sparse import csr_matrix

from rlcredit.retrieval import BM25, HNSW, IVF
from rlcredit.retrieval.approximate import ApproximateIndex, faiss
from rlcredit.retrieval.base import Documents, Encoded
from rlcredit.retrieval.dense import Dense, Embedder
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.kinds import Role
from rlcredit.retrieval.measures import order
from rlcredit.retrieval.sparse import SparseIndex, words
from rlcredit.retrieval.vectors import VectorIndex, has_length, unit_rows
from rlcredit.tasks import ESCI
from rlcredit.tasks.pools import fill_pool, nearest
from scripts.bench_speed import store

SIZES = (10_000, 50_000, 100_000, 1_200_000)
QUERIES = 20_000
DEPTH = 100
COMPARED = 64
"""Queries whose documents are compared with those of exact search."""
AT_ONCE = 128
"""Queries searched for together."""
ALONE = 100
"""Queries searched for one by one."""
_BUCKETS, _WIDTH = 2**16, 384


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Texts to sums of random vectors, one for each hash of a word."""

    seed: int = 0

    @property
    def digest(self) -> str:
        """Hash of all that a vector depends on but its text."""
        return digest("projection", str(self.seed), str(_BUCKETS), str(_WIDTH))

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return torch.device("cpu")

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        return _WIDTH

    @cached_property
    def _axes(self) -> np.ndarray:
        rng = np.random.default_rng(self.seed)
        return rng.standard_normal((_BUCKETS, _WIDTH), dtype=np.float32)

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Unit vectors; zero for a text without words."""
        buckets = [[crc32(word.encode()) % _BUCKETS for word in words(text)] for text in texts]
        starts = np.cumsum([0, *map(len, buckets)])
        columns = np.array([bucket for row in buckets for bucket in row], dtype=np.int64)
        counts = csr_matrix(
            (np.ones(len(columns), dtype=np.float32), columns, starts), (len(texts), _BUCKETS)
        )
        rows = unit_rows(torch.from_numpy(counts @ self._axes))
        return Encoded(known=has_length(rows), rows=rows)


@dataclass(frozen=True, kw_only=True)
class Simulated(Dense):
    """Exact search among simulated vectors."""

    name: str = "simulated"

    def embedder(self, role: Role) -> Embedder:
        """Texts to vectors, in either role the same."""
        return Projection()


SearchedIndex = SparseIndex | VectorIndex | ApproximateIndex
Searched = BM25 | Simulated | IVF | HNSW

RETRIEVERS: Mapping[str, Searched] = {
    "bm25": BM25(),
    "dense": Simulated(),
    "ivf": IVF(dense=Simulated(), clusters=2048),
    "hnsw": HNSW(dense=Simulated()),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one index over one catalogue costs: processor seconds, gigabytes of 1e9 bytes."""

    documents: int
    retriever: str
    threads: int
    load_s: float
    load_gb: float
    """Peak of the resident memory of loading, as the other peaks from the start on."""
    build_s: float
    build_wall_s: float
    """By the clock, on a machine that others use too."""
    build_gb: float
    alone_ms: float
    """Median of one query by itself."""
    queries: int
    pools_s: float
    """All queries' first 100 documents, in blocks."""
    queries_per_s: float
    peak_gb: float
    exact: float
    """Share of the compared queries' first 100 that is what scoring every document gives, rank by
    rank; for an approximate index, at any rank."""


def main() -> None:
    """Measure line by line, each in a process of its own; print and store."""
    parser = argparse.ArgumentParser(description="Cost of a large catalogue.")
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)))
    parser.add_argument("--retrievers", default=",".join(RETRIEVERS))
    parser.add_argument("--queries", type=int, default=QUERIES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/catalogue"))
    parser.add_argument("--task-pools", action="store_true", help="the pools of a published set")
    parser.add_argument("--encode", type=int, help="so many documents, by MiniLM")
    parser.add_argument("--one", action="store_true", help="one line, in this process")
    chosen = parser.parse_args()
    if chosen.one:
        row = measured(int(chosen.sizes), chosen.retrievers, chosen)
        print(json.dumps(asdict(row)), flush=True)
        return
    if chosen.encode:
        store(chosen.out / "encoding.json", [encoding(chosen)])
        return
    if chosen.task_pools:
        for size in map(int, chosen.sizes.split(",")):
            store(chosen.out / f"task_pools_{size}.json", [task_pools(size, chosen)])
        return
    for size in chosen.sizes.split(","):
        for name in chosen.retrievers.split(","):
            cell = ["--sizes", size, "--retrievers", name, "--queries", str(chosen.queries)]
            cell += ["--threads", str(chosen.threads), "--cache", str(chosen.cache), "--one"]
            command = [sys.executable, "-m", "scripts.bench_catalogue", *cell]
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            keep(chosen.out, json.loads(said.splitlines()[-1]))


def measured(size: int, name: str, chosen: argparse.Namespace) -> Row:
    """One line of the table."""
    torch.set_num_threads(chosen.threads)
    faiss().omp_set_num_threads(chosen.threads)
    task = ESCI(size=size, cache=str(chosen.cache))
    documents, load_s = timed(lambda: task.load().documents)
    load_gb, clock = peak_gb(), time.perf_counter()
    index, build_s = timed(lambda: RETRIEVERS[name].index(documents, cache=chosen.cache))
    build_wall_s, build_gb = time.perf_counter() - clock, peak_gb()
    encoded = index.encode(queries_of(documents, chosen.queries))
    rows = torch.arange(chosen.queries)

    def found(some: torch.Tensor) -> float:
        return timed(lambda: index.search(encoded, some, depth=DEPTH))[1]

    alone = [found(row) for row in rows[:ALONE].split(1)]
    pools_s = sum(found(block) for block in rows.split(AT_ONCE))
    return Row(
        documents=size,
        retriever=name,
        threads=chosen.threads,
        load_s=load_s,
        load_gb=load_gb,
        build_s=build_s,
        build_wall_s=build_wall_s,
        build_gb=build_gb,
        alone_ms=1000 * median(alone),
        queries=chosen.queries,
        pools_s=pools_s,
        queries_per_s=chosen.queries / pools_s,
        peak_gb=peak_gb(),
        exact=exact_share(index, encoded, ranked=name in ("bm25", "dense")),
    )


def queries_of(documents: Documents, number: int) -> list[str]:
    """Two to six words of a document each."""
    rng = np.random.default_rng(1)
    found = []
    for row in map(int, rng.integers(len(documents.ids), size=number)):
        said = documents.texts[row].split()
        found.append(" ".join(rng.choice(said, min(int(rng.integers(2, 7)), len(said)))))
    return found


def exact_share(index: SearchedIndex, encoded: Encoded, *, ranked: bool) -> float:
    """Share of the retrieved documents that are those of scoring every document."""
    hits = total = 0
    for row in torch.arange(COMPARED).split(1):
        scores = index.score(encoded, row)
        exact = order(scores, depth=DEPTH)[0]
        found, best = index.search(encoded, row, depth=DEPTH)
        kept = best[0] > -torch.inf
        same = found[0] == exact if ranked else torch.isin(found[0], exact)
        hits += int((same & kept).sum())
        total += min(int((scores > -torch.inf).sum()), len(exact))
    return hits / total


def task_pools(size: int, chosen: argparse.Namespace) -> dict[str, Any]:
    """What a published set's pools cost: the lexically nearest products, and random others."""
    torch.set_num_threads(chosen.threads)
    documents = ESCI(size=size, cache=str(chosen.cache)).load().documents
    queries = queries_of(documents, chosen.queries)
    _, one_s = timed(lambda: nearest(queries[:1], documents.texts, num=DEPTH))
    rows, nearest_s = timed(lambda: nearest(queries, documents.texts, num=DEPTH))

    def fill() -> None:
        for query, row in zip(queries, rows[:, : DEPTH // 2].tolist(), strict=True):
            near = [documents.ids[at] for at in row]
            fill_pool(near, documents.ids, size=DEPTH, seed=0, key=query)

    _, fill_s = timed(fill)
    found = {"documents": size, "queries": len(queries), "threads": chosen.threads}
    found |= {"index_s": one_s, "nearest_s": nearest_s - one_s, "fill_s": fill_s}
    print(found | {"peak_gb": peak_gb()}, flush=True)
    return found | {"peak_gb": peak_gb()}


def encoding(chosen: argparse.Namespace) -> dict[str, Any]:
    """Documents a second of MiniLM on a processor, and hours of the largest catalogue."""
    torch.set_num_threads(chosen.threads)
    documents = ESCI(size=SIZES[0], cache=str(chosen.cache)).load().documents
    texts = list(documents.texts[: chosen.encode])
    embedder = Dense().embedder(Role.document)
    embedder(texts[:8])
    _, seconds = timed(lambda: embedder(texts))
    rate = len(texts) / seconds
    hours = SIZES[-1] / rate / 3600
    print(f"MiniLM: {rate:.0f} documents a second, {hours:.1f} h for {SIZES[-1]:,}", flush=True)
    return {"documents": len(texts), "threads": chosen.threads, "per_s": rate, "hours": hours}


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its processor seconds."""
    start = time.process_time()
    made = work()
    return made, time.process_time() - start


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def keep(folder: Path, row: dict[str, Any]) -> None:
    """Put a line into ``catalogue.json`` in place of one of the same index, and print the table."""
    path = folder / "catalogue.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    key = ("documents", "retriever", "threads")
    rows = [old for old in rows if any(old[name] != row[name] for name in key)]
    rows = sorted([*rows, row], key=lambda one: [one[name] for name in key])
    store(path, rows)
    table = "\n".join([HEAD, *map(line, rows)]) + "\n"
    (folder / "catalogue.md").write_text(table)
    print(table, flush=True)


HEAD = (
    "| documents | index | threads | build, s (by the clock) | memory, GB | one query, ms "
    "| pools of 100: queries | s | queries/s | equal to exact search |\n" + "|---" * 10 + "|"
)


def line(row: Mapping[str, Any]) -> str:
    """A line of the table."""
    return (
        f"| {row['documents']:,} | {row['retriever']} | {row['threads']} "
        f"| {row['build_s']:.0f} ({row['build_wall_s']:.0f}) | {row['peak_gb']:.1f} "
        f"| {row['alone_ms']:.1f} | {row['queries']:,} | {row['pools_s']:.0f} "
        f"| {row['queries_per_s']:.0f} | {row['exact']:.1%} |"
    )


if __name__ == "__main__":
    main()
