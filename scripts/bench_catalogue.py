"""What a large catalogue costs: time and memory of indexes, queries a second, pools of all queries.

    python -m scripts.bench_catalogue                            all of it: hours
    python -m scripts.bench_catalogue --sizes 10000 --retrievers bm25,dense
    python -m scripts.bench_catalogue --threads 2

The catalogues are generated (``dataset.size``). Each line is a process of its own, so that its peak
of resident memory, pages of mapped files included, is its own. The vectors are simulated: sums of
random vectors of a text's words, 384 numbers as MiniLM's, since a processor encodes 1.2 million texts
in hours. Recall is measured against exact search, and exact search against scoring every document.
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
from rlcredit.retrieval.approximate import faiss
from rlcredit.retrieval.base import Documents, Encoded, Index, Retriever, Searcher
from rlcredit.retrieval.dense import Dense, Embedder
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.kinds import Role
from rlcredit.retrieval.measures import order
from rlcredit.retrieval.sparse import words
from rlcredit.retrieval.vectors import has_length, unit_rows
from rlcredit.tasks import ESCI

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


RETRIEVERS: Mapping[str, Retriever] = {
    "bm25": BM25(),
    "dense": Simulated(),
    "ivf": IVF(dense=Simulated()),
    "hnsw": HNSW(dense=Simulated()),
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one index over one catalogue costs. Seconds, gigabytes of 1e9 bytes, or per second."""

    documents: int
    retriever: str
    threads: int
    load_s: float
    load_peak_gb: float
    build_s: float
    build_peak_gb: float
    alone_ms: float
    """Median of one query by itself."""
    queries: int
    pools_s: float
    """All queries' first 100 documents, in blocks."""
    queries_per_s: float
    peak_gb: float
    equal_share: float
    """Of the compared queries' documents, those that exact search has at the same rank; of an
    approximate index, those that exact search has at all."""


def peak_gb() -> float:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def queries_of(documents: Documents, number: int) -> list[str]:
    """Two to six words of a document each."""
    rng = np.random.default_rng(1)
    found = []
    for row in rng.integers(len(documents.ids), size=number).tolist():
        said = documents.texts[row].split()
        found.append(" ".join(rng.choice(said, min(int(rng.integers(2, 7)), len(said)))))
    return found


def measured(size: int, name: str, *, threads: int, queries: int, cache: Path) -> Row:
    """One line of the table."""
    documents, load_s = timed(lambda: ESCI(size=size, cache=str(cache)).load().documents)
    load_peak_gb = peak_gb()
    index, build_s = timed(lambda: RETRIEVERS[name].index(documents, cache=cache))
    build_peak_gb = peak_gb()
    assert isinstance(index, Searcher)
    encoded = index.encode(queries_of(documents, queries))
    rows = torch.arange(queries)

    def pools() -> None:
        for block in rows.split(AT_ONCE):
            index.search(encoded, block, depth=DEPTH)

    alone = [timed(lambda row=row: index.search(encoded, row, depth=DEPTH))[1] for row in
             rows[:ALONE].split(1)]
    _, pools_s = timed(pools)
    return Row(
        documents=size,
        retriever=name,
        threads=threads,
        load_s=load_s,
        load_peak_gb=load_peak_gb,
        build_s=build_s,
        build_peak_gb=build_peak_gb,
        alone_ms=1000 * median(alone),
        queries=queries,
        pools_s=pools_s,
        queries_per_s=queries / pools_s,
        peak_gb=peak_gb(),
        equal_share=equal_share(index, encoded, approximate=name in ("ivf", "hnsw")),
    )


def equal_share(index: Index, encoded: Encoded, *, approximate: bool) -> float:
    """Share of the documents that are those of scoring every document."""
    assert isinstance(index, Searcher)
    shares = []
    for row in torch.arange(COMPARED).split(4):
        exact = order(index.score(encoded, row), depth=DEPTH)
        found, _ = index.search(encoded, row, depth=DEPTH)
        equal = exact[:, :, None] == found[:, None, :]
        hits = equal.any(2) if approximate else equal.diagonal(dim1=1, dim2=2)
        shares.append(hits.double().mean(1))
    return float(torch.cat(shares).mean())


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its seconds on the wall."""
    start = time.perf_counter()
    made = work()
    return made, time.perf_counter() - start
