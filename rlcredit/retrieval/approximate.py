"""Approximate search for catalogues that outgrow exact search, by FAISS.

A prompt's pool is still scored exactly, as it is small; only searches of the whole catalogue are
approximate. FAISS is an optional dependency, imported when an index is first needed.
"""

import importlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.retrieval.base import Documents, Encoded
from rlcredit.retrieval.checked import read_checked, write_checked
from rlcredit.retrieval.damaged import set_aside
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.measures import order
from rlcredit.retrieval.memory import refuse_what_does_not_fit
from rlcredit.retrieval.vectors import VectorIndex

_log = logging.getLogger(__name__)

_AT = 100
"""Recall is reported among so many documents."""
_QUERIES = 256
"""Documents whose texts are searched for when recall is measured."""
_USUAL_RECALL = 0.99
_POINTS_PER_CLUSTER = 39
"""Fewest vectors of a cluster; with fewer, k-means learns too little (FAISS's own limit)."""


def faiss() -> Any:
    """Import FAISS.

    Raises:
        RuntimeError: If it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise RuntimeError(
            "approximate search needs FAISS, which is not installed; "
            "pip install 'rlcredit[train]', or choose an exact retriever (retriever=minilm)"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Approximate(ABC):
    """What the two kinds of approximate index have in common.

    Raises:
        ValueError: If a number is below 1.
    """

    dense: Dense
    """The dense retriever whose vectors are searched."""
    depth: int = 1000
    """Documents that are found where a measure has no cut-off."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{name}={value}, but it is 1 or more; see conf/retriever")

    def index(self, documents: Documents, *, cache: Path) -> "ApproximateIndex":
        """Build the index, or read it: vectors from ``cache/embeddings``, graphs from ``indexes``.

        Raises:
            RuntimeError: If FAISS is not installed.
            ValueError: If the vectors or the graph do not fit into memory.
        """
        exact = self.dense.index(documents, cache=cache)
        built = replace(self, **{name: 1 for name in self.read_when_searching})
        name = digest(exact.digest, repr(replace(built, depth=1)), faiss().__version__)
        graph = self._stored(cache / "indexes" / f"{name}.faiss", exact)
        made = ApproximateIndex(
            exact=exact,
            digest=digest(name, repr(self)),
            graph=graph,
            kind=self,
        )
        made.report(documents)
        return made

    @property
    @abstractmethod
    def read_when_searching(self) -> tuple[str, ...]:
        """Settings that a built index does not depend on."""

    @abstractmethod
    def num_bytes(self, number: int, width: int) -> int:
        """What FAISS's index of so many vectors takes: it copies them."""

    @abstractmethod
    def build(self, exact: VectorIndex) -> Any:
        """A FAISS index over the vectors; on one thread the same for the same vectors."""

    @abstractmethod
    def parameters(self, depth: int) -> Any:
        """FAISS's parameters of a search for so many documents."""

    def _stored(self, path: Path, exact: VectorIndex) -> Any:
        """The index at a path, memory-mapped; built on one thread and stored where there is none.

        The file appears under its name only when it is complete, and its checksum stands beside it.
        A damaged file is set aside as ``<name>.damaged`` with a warning, and made again. An index
        that cannot be stored is used all the same, with a warning.
        """
        try:
            if path.exists():
                return read_checked(path, lambda file: _read(file, exact.vectors.shape))
        except (ValueError, RuntimeError, OSError) as error:
            set_aside(path, error)
        number, width = exact.vectors.shape
        what = f"{type(self).__name__} over {number:,} vectors of {width:,} float32 numbers"
        refuse_what_does_not_fit(what, self.num_bytes(number, width))
        threads = faiss().omp_get_max_threads()
        faiss().omp_set_num_threads(1)
        try:
            graph = self.build(exact)
        finally:
            faiss().omp_set_num_threads(threads)
        try:
            write_checked(path, lambda file: faiss().write_index(graph, str(file)))
        except (OSError, RuntimeError) as error:
            _log.warning(
                "the index could not be stored as %s (%s); this run goes on with it in memory, the "
                "next one builds it again. Make room there, or set another cache=<folder>",
                path,
                error,
            )
        return graph


@dataclass(frozen=True, kw_only=True)
class HNSW(Approximate):
    """A graph of near neighbours on several levels (arXiv:1603.09320)."""

    links: int = 32
    """Links of a document on each level but the lowest, which has twice as many."""
    ef_construction: int = 200
    """Candidates that are looked at where a document is put in."""
    ef_search: int = 256
    """Candidates that are looked at in a search; more find more, and take longer."""

    @property
    def read_when_searching(self) -> tuple[str, ...]:
        """``ef_search`` alone: the graph does not depend on it."""
        return ("ef_search",)

    def num_bytes(self, number: int, width: int) -> int:
        """A vector, its links on the lowest level and a few above, its level and its place."""
        per_vector = 4 * width + 4 * 2 * self.links + 4 * self.links // (self.links - 1 or 1) + 12
        return number * per_vector

    def build(self, exact: VectorIndex) -> Any:
        """Put the vectors into a graph one after another."""
        vectors = exact.vectors.cpu().numpy()
        made = faiss().index_factory(
            vectors.shape[1], f"HNSW{self.links},Flat", faiss().METRIC_INNER_PRODUCT
        )
        made.hnsw.efConstruction = self.ef_construction
        made.add(vectors)
        return made

    def parameters(self, depth: int) -> Any:
        """Look at as many candidates as are wanted, or more."""
        return faiss().SearchParametersHNSW(efSearch=max(self.ef_search, depth))


@dataclass(frozen=True, kw_only=True)
class IVF(Approximate):
    """Lists of documents around the centres of k-means; the nearest lists are searched."""

    clusters: int | None = None
    """Lists; null: four times the root of the number of documents."""
    probes: int = 256
    """Lists that are searched; more find more, and take longer."""

    @property
    def read_when_searching(self) -> tuple[str, ...]:
        """``probes`` alone: the lists do not depend on it."""
        return ("probes",)

    def num_bytes(self, number: int, width: int) -> int:
        """A vector and its number, and the centres."""
        return number * (4 * width + 8) + 4 * width * self._num_clusters(number)

    def build(self, exact: VectorIndex) -> Any:
        """Find the centres by k-means, and put each vector into its list."""
        vectors = exact.vectors.cpu().numpy()
        number, width = vectors.shape
        clusters = self._num_clusters(number)
        made = faiss().index_factory(width, f"IVF{clusters},Flat", faiss().METRIC_INNER_PRODUCT)
        made.train(vectors)
        made.add(vectors)
        return made

    def _num_clusters(self, number: int) -> int:
        return max(min(self.clusters or 4 * isqrt(number), number // _POINTS_PER_CLUSTER), 1)

    def parameters(self, depth: int) -> Any:
        """Search ``probes`` lists, whatever the depth."""
        return faiss().SearchParametersIVF(nprobe=self.probes)


@dataclass(frozen=True, kw_only=True, eq=False)
class ApproximateIndex:
    """An :class:`Index` that also searches: what it finds in the whole catalogue is approximate."""

    exact: VectorIndex
    digest: str
    graph: Any
    """FAISS's index."""
    kind: Approximate

    @property
    def document_ids(self) -> tuple[str, ...]:
        """Row order of the documents."""
        return self.exact.document_ids

    @property
    def encoding(self) -> str | None:
        """Content hash of everything that the exact index's encodings depend on."""
        return self.exact.encoding

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Encode texts as the exact index does."""
        return self.exact.encode(texts)

    def score(
        self, encoded: Encoded, rows: Int[Tensor, " N"], documents: Int[Tensor, " K"] | None = None
    ) -> Float[Tensor, "N K"]:
        """Score texts against documents exactly; -inf where nothing is retrieved."""
        return self.exact.score(encoded, rows, documents)

    def search(
        self, encoded: Encoded, rows: Int[Tensor, " N"], *, depth: int | None
    ) -> tuple[Int[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Documents of the catalogue in rank order, and their scores; -inf where none is left.

        Args:
            encoded: Texts.
            rows: Which of them.
            depth: So many ranks; None: ``kind.depth``.
        """
        self.exact.refuse_foreign(encoded)
        wanted = min(depth or self.kind.depth, len(self.document_ids))
        queries = encoded.rows[rows.to(encoded.rows.device)].cpu().numpy()
        scores, found = self.graph.search(queries, wanted, params=self.kind.parameters(wanted))
        columns = torch.from_numpy(found).sort(dim=1)
        best = torch.from_numpy(scores).gather(1, columns.indices)
        best = best.masked_fill((columns.values < 0) | ~encoded.known[rows, None], -torch.inf)
        ranks = order(best)  # equal scores by document id, descending, as everywhere
        return columns.values.clamp(min=0).gather(1, ranks), best.gather(1, ranks)

    def recall(self, texts: Sequence[str]) -> float:
        """Mean share of the exact first 100 documents that is found."""
        encoded = self.encode(texts)
        rows = encoded.known.nonzero().squeeze(1)
        depth = min(_AT, len(self.document_ids))
        exact, _ = self.exact.search(encoded, rows, depth=depth)
        found, _ = self.search(encoded, rows, depth=depth)
        hits = (exact[:, :, None] == found[:, None, :]).any(2).float().mean(1)
        return float(hits.mean())

    def report(self, documents: Documents) -> None:
        """Say what share of the exact neighbours is found; warn where it is below 99 %."""
        step = max(len(documents.texts) // _QUERIES, 1)
        recall = self.recall([text for text in documents.texts[::step] if text.strip()][:_QUERIES])
        name = type(self.kind).__name__
        _log.info("%s over %d documents: recall@%d %.4f", name, len(documents.ids), _AT, recall)
        if recall < _USUAL_RECALL:
            _log.warning(
                "%s finds only %.1f %% of the first %d documents of exact search; raise "
                "retriever.%s, or use exact search",
                name,
                100 * recall,
                _AT,
                self.kind.read_when_searching[0],
            )


def _read(path: Path, shape: Sequence[int]) -> Any:
    graph = faiss().read_index(str(path), faiss().IO_FLAG_MMAP_IFC)
    if (graph.ntotal, graph.d) != tuple(shape):
        raise ValueError(
            f"it holds {graph.ntotal} documents of {graph.d} dimensions, not {shape[0]} of "
            f"{shape[1]}"
        )
    return graph
