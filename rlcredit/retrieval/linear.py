"""TF-IDF and latent semantic analysis, from scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix
from torch import Tensor

from rlcredit.retrieval.base import Documents, Encoded
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.sparse import (
    Analyzer,
    Bag,
    SparseIndex,
    check_k3,
    searchable_by,
    searchable_by_words,
    words,
)
from rlcredit.retrieval.vectors import VectorIndex, has_length, unit_rows
from rlcredit.text.words import FOLDING, folded


class Terms(StrEnum):
    """What is counted."""

    words = auto()
    char_ngrams = auto()
    """Runs of 3 to 5 characters within words, which forgives spelling."""


@dataclass(frozen=True, kw_only=True)
class TFIDF:
    """Cosine of the texts' TF-IDF vectors (scikit-learn's smooth idf).

    A document's term weighs its count, a text's its saturated count (BM25's query side).

    Raises:
        ValueError: If ``k3`` is negative or not finite.
    """

    terms: Terms = Terms.words
    k3: float | None = 0.0
    """How slowly a term that the text repeats stops to weigh more: 0: it counts once (of character
    n-grams: each n-gram once, in however many words it stands); None: as often as it is said."""

    def __post_init__(self) -> None:
        """Check the settings."""
        check_k3(self.k3)

    def index(self, documents: Documents, *, cache: Path) -> SparseIndex:
        """Index the documents. Nothing is cached: building takes less than reading would.

        Raises:
            ValueError: If no document has a term, or words are counted and the documents' language
                has no blanks between them.
        """
        if self.terms is Terms.words:
            analyzer: Any = words
            documents = searchable_by_words(analyzer, documents)
        else:
            analyzer = _char_ngrams()
            documents = searchable_by(analyzer, documents)
        from sklearn.feature_extraction.text import TfidfVectorizer  # 3 s of every start

        vectorizer = TfidfVectorizer(analyzer=analyzer)
        weights = csr_matrix(vectorizer.fit_transform(documents.texts), dtype=np.float32)
        return SparseIndex(
            document_ids=documents.ids,
            digest=digest(repr(self), FOLDING, documents.ids, documents.texts),
            bag=Bag(analyzer=analyzer, vocabulary=dict(vectorizer.vocabulary_)),
            weights=weights,
            term_weights=vectorizer.idf_.astype(np.float32),
            k3=self.k3,
        )


@dataclass(frozen=True, kw_only=True)
class LSA:
    """Cosine in the space of the leading singular vectors of the documents' TF-IDF matrix.

    Raises:
        ValueError: If there are fewer than 1 dimensions, ``k3`` is negative or not finite, or, when
            indexing, not more documents and terms than dimensions.
    """

    dimensions: int = 96
    """Length of the vectors."""
    seed: int = 0
    """Seed of the randomised decomposition."""
    k3: float | None = 0.0
    """How a word that the text repeats weighs in its TF-IDF vector; as :class:`TFIDF`'s."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.dimensions < 1:
            raise ValueError(f"dimensions={self.dimensions}, but it is 1 or more; 96 is usual")
        check_k3(self.k3)

    def index(self, documents: Documents, *, cache: Path) -> VectorIndex:
        """Index the documents. Nothing is cached: building takes seconds."""
        tfidf = TFIDF(k3=self.k3).index(documents, cache=cache)
        num_documents, num_terms = len(tfidf.document_ids), len(tfidf.bag.vocabulary)
        if self.dimensions >= min(num_documents, num_terms):
            raise ValueError(
                f"dimensions={self.dimensions} for {num_documents} documents with {num_terms} "
                "terms; set retriever.dimensions below both"
            )
        from sklearn.decomposition import TruncatedSVD

        svd = TruncatedSVD(n_components=self.dimensions, random_state=self.seed)
        svd.fit(tfidf.weights)
        axes = np.ascontiguousarray(np.asarray(svd.components_, dtype=np.float32).T)

        def project(rows: csr_matrix) -> Float[Tensor, "N D"]:
            return unit_rows(torch.from_numpy(rows @ axes))

        def embed_with(bag: SparseIndex, texts: Sequence[str]) -> Encoded:
            rows = project(bag.encode(texts).rows)
            return Encoded(known=has_length(rows), rows=rows)

        return VectorIndex(
            document_ids=tfidf.document_ids,
            digest=digest(repr(self), tfidf.digest),
            vectors=project(tfidf.weights),
            embed=partial(embed_with, tfidf),
            embed_linear=None if self.k3 is None else partial(embed_with, tfidf.linear),
        )


def _char_ngrams() -> Analyzer:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        analyzer="char_wb", preprocessor=folded, ngram_range=(3, 5)
    ).build_analyzer()
