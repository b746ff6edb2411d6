"""BM25, from the score matrix that ``bm25s`` builds."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN
from numpy.typing import NDArray
from scipy.sparse import csc_matrix, csr_matrix

from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.memory import refuse_what_does_not_fit
from rlcredit.retrieval.sparse import (
    Analyzer,
    Bag,
    SparseIndex,
    check_k3,
    searchable_by_words,
    words,
)
from rlcredit.text.words import FOLDING

_STOPWORDS = frozenset(STOPWORDS_EN)
_BYTES_PER_TERM = 40
"""What ``bm25s`` and the conversions of its matrix take at most for each word of a document."""


@dataclass(frozen=True, kw_only=True)
class BM25:
    """BM25 as in Lucene (every score positive), without English stop words.

    score(q, d) = sum over the distinct terms t of q of
                  qtf (k3 + 1) / (qtf + k3)  idf(t) tf / (tf + k1 (1 - b + b |d| / mean |d|))

    with qtf and tf the counts of t in q and in d. Without the first factor, a text that says one
    word many times is another query than one that says it once, and repeating is rewarded.

    Raises:
        ValueError: If ``k1`` or ``k3`` is negative, ``k3`` not finite, or ``b`` not in [0, 1].
    """

    k1: float = 1.5
    """How slowly a repeated term stops to pay."""
    b: float = 0.75
    """How much long documents are held back, 0 to 1."""
    k3: float | None = 0.0
    """How slowly a query term that is repeated stops to pay (Robertson et al., TREC-3): 0: it
    counts once; None: as often as it is said."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.k1 < 0:
            raise ValueError(f"k1={self.k1}, but it is 0 or more; 1.5 is usual")
        if not 0 <= self.b <= 1:
            raise ValueError(f"b={self.b}, but it lies between 0 and 1; 0.75 is usual")
        check_k3(self.k3)

    def index(self, documents: Documents, *, cache: Path) -> SparseIndex:
        """Index the documents. Nothing is cached: building takes less than reading would.

        Raises:
            ValueError: If no document has a term, their language has no blanks between words, or
                the index does not fit into memory.
        """
        documents = searchable_by_words(terms_of, documents)
        corpus: Any = Corpus.of(terms_of, documents.texts)
        said = len(corpus.ids.values)
        what = f"a BM25 index of {len(documents.ids):,} documents of {said:,} terms"
        refuse_what_does_not_fit(what, _BYTES_PER_TERM * said)
        model = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        model.index(corpus, create_empty_token=False, show_progress=False)
        by_term = csc_matrix(
            (model.scores["data"], model.scores["indices"], model.scores["indptr"]),
            shape=(len(documents.ids), len(corpus.vocab)),
        )
        return SparseIndex(
            document_ids=documents.ids,
            digest=digest(repr(self), FOLDING, documents.ids, documents.texts),
            bag=Bag(analyzer=words, vocabulary=corpus.vocab),
            weights=csr_matrix(by_term),
            k3=self.k3,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """Documents as numbers of terms, four bytes each; ``bm25s`` knows its two fields by name.

    Terms are numbered in alphabetical order: left to itself, ``bm25s`` numbers them as a set of
    strings gives them, which every process does anew. A score would be another sum, and of two near
    ties another document would come first.
    """

    ids: "Rows"
    vocab: dict[str, int]
    """Term -> its number."""

    @classmethod
    def of(cls, analyzer: Analyzer, texts: Iterable[str]) -> "Corpus":
        """Number the terms of texts, which are read once and not kept."""
        seen: defaultdict[str, int] = defaultdict()
        seen.default_factory = seen.__len__
        numbers, ends = array("i"), array("q", [0])
        for text in texts:
            numbers.extend(map(seen.__getitem__, analyzer(text)))
            ends.append(len(numbers))
        terms = sorted(seen)
        place = np.empty(len(terms), dtype=np.int32)
        place[[seen[term] for term in terms]] = np.arange(len(terms), dtype=np.int32)
        rows = Rows(values=place[np.asarray(numbers)], ends=np.asarray(ends))
        return cls(ids=rows, vocab={term: number for number, term in enumerate(terms)})


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Lists of numbers, laid end to end."""

    values: NDArray[np.int32]
    ends: NDArray[np.int64]
    """0, and where each list ends."""

    def __len__(self) -> int:
        """How many lists there are."""
        return len(self.ends) - 1

    def __iter__(self) -> Iterator[list[int]]:
        """The lists one after another."""
        for start, end in pairwise(self.ends.tolist()):
            yield self.values[start:end].tolist()


def terms_of(text: str) -> list[str]:
    """The words of a text that are no stop words."""
    return [word for word in words(text) if word not in _STOPWORDS]
