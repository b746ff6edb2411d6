"""Bag-of-words search: texts and documents are rows of term weights, scores are inner products."""

import math
import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, repeat

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, diags_array
from torch import Tensor

from rlcredit.retrieval.base import Documents, Encoded, Picked
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.top import tops
from rlcredit.text.words import folded_matches, refuse_without_blanks

Analyzer = Callable[[str], Sequence[str]]
"""A text's terms, in order, repetitions included."""

_WORDS = re.compile(r"(?u)\b\w\w+\b")


def words(text: str) -> list[str]:
    """Runs of two or more letters, digits or underscores, in the form in which they compare."""
    return folded_matches(_WORDS, text)


def searchable(documents: Documents) -> Documents:
    """The documents in descending order of their ids, the order in which ties are broken.

    Raises:
        ValueError: If there are none, or none has any text.
    """
    if not any(text.strip() for text in documents.texts):
        raise ValueError(
            f"none of the {len(documents.ids)} documents has a text, so nothing can be found; "
            "check the data set's title columns"
        )
    rows = sorted(range(len(documents.ids)), key=documents.ids.__getitem__, reverse=True)
    return Documents(
        ids=tuple(documents.ids[row] for row in rows),
        texts=Picked(texts=documents.texts, rows=array("i", rows)),
    )


def searchable_by(analyzer: Analyzer, documents: Documents) -> Documents:
    """The documents in the order of :func:`searchable`, where their terms can be searched for.

    Raises:
        ValueError: If no document has a term.
    """
    documents = searchable(documents)
    if not any(analyzer(text) for text in documents.texts):
        raise ValueError(
            f"none of the {len(documents.ids)} documents has a term to search for (terms are words "
            "of two letters or more; BM25 leaves out English stop words), so nothing can be found; "
            "check the data set's texts"
        )
    return documents


def searchable_by_words(analyzer: Analyzer, documents: Documents) -> Documents:
    """The documents as :func:`searchable_by` gives them, where blanks part their words.

    Raises:
        ValueError: If no document has a term, or their language has no blanks between words.
    """
    documents = searchable_by(analyzer, documents)
    refuse_without_blanks(documents.texts, "the documents of a bag-of-words retriever")
    return documents


def check_k3(k3: float | None) -> None:
    """Refuse a saturation of query terms that is none.

    Raises:
        ValueError: If it is negative or not finite.
    """
    if k3 is not None and not (k3 >= 0 and math.isfinite(k3)):
        raise ValueError(
            f"k3={k3}, but it is 0 or more and finite; 0 counts a repeated query word once, and "
            "null each time that it is said"
        )


def saturated(counts: np.ndarray, k3: float | None) -> np.ndarray:
    """What counts of query terms weigh: ``qtf (k3 + 1) / (qtf + k3)``.

    The query side of Okapi BM25 (Robertson et al., TREC-3, 1994; Robertson and Zaragoza, 2009,
    sec. 3.4.4): 1 for a term that is said once, below ``k3 + 1`` however often it is repeated.

    Args:
        counts: How often the query says each of its terms, above 0.
        k3: 0: a term counts once; None: the limit of a large ``k3``, counts as they are.
    """
    return counts if k3 is None else counts * (k3 + 1) / (counts + k3)


_PRODUCTS = 2**24
"""Scores of texts by documents that a search holds at most."""

_DENSE = 2**20
"""Term weights of a pool that are multiplied as they are, zeros and all."""


@dataclass(frozen=True, kw_only=True)
class Bag:
    """Counts the terms of texts that are in a vocabulary."""

    analyzer: Analyzer
    vocabulary: dict[str, int]

    def counts(self, texts: Sequence[str]) -> csr_matrix:
        """Term counts, [texts, terms], float32, terms in the vocabulary's order in every row.

        The order makes a score the same to the bit for every order of a text's words.
        """
        terms = [self.analyzer(text) for text in texts]
        number = map(self.vocabulary.get, chain.from_iterable(terms), repeat(-1))
        starts = np.cumsum([0, *map(len, terms)])
        numbers = np.fromiter(number, dtype=np.int32, count=starts[-1])
        known = numbers >= 0
        starts = np.concatenate([[0], np.cumsum(known)])[starts]
        ones = np.ones(starts[-1], dtype=np.float32)
        counts = csr_matrix(
            (ones, numbers[known], starts), shape=(len(texts), len(self.vocabulary))
        )
        counts.sum_duplicates()
        return counts


@dataclass(frozen=True, kw_only=True, eq=False)
class SparseIndex:
    """Documents as rows of non-negative term weights; those that share a term are retrieved."""

    document_ids: tuple[str, ...]
    digest: str
    bag: Bag
    weights: csr_matrix
    """[documents, terms]."""
    term_weights: np.ndarray | None = None
    """What a text's counts, saturated, are multiplied with, per term; its row then gets length 1.
    None: they are taken as they are."""
    k3: float | None
    """How a term that a text repeats counts; see :func:`saturated`."""
    encoding: None = None
    """None: encodings are not worth remembering, since they cost less to make."""

    @property
    def linear(self) -> "SparseIndex":
        """The same documents, where a text's term counts each time that it is said."""
        if self.k3 is None:
            return self
        return replace(self, k3=None, digest=digest(self.digest, "linear"))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Weigh the known terms of each text; independent of the other texts to the bit."""
        rows = self.bag.counts(texts)
        rows.data = saturated(rows.data, self.k3)
        known = torch.from_numpy(np.diff(rows.indptr) > 0)
        if self.term_weights is not None:
            rows = weighted(rows, self.term_weights)
        return Encoded(known=known, rows=rows)

    def score(
        self, encoded: Encoded, rows: Int[Tensor, " N"], documents: Int[Tensor, " K"] | None = None
    ) -> Float[Tensor, "N K"]:
        """Multiply the texts' weights with the documents'; -inf where they share no term."""
        asked = encoded.rows[rows.numpy()]
        terms = self._by_term if documents is None else self.weights[documents.numpy()].T
        number = len(self.document_ids) if documents is None else len(documents)
        if number * len(self.bag.vocabulary) <= _DENSE:
            product = asked @ terms.toarray()  # the same sums in the same order, three times faster
        else:
            product = (asked @ terms).toarray()
        scores = torch.from_numpy(product)
        return scores.masked_fill_(scores <= 0, -torch.inf)

    def search(
        self, encoded: Encoded, rows: Int[Tensor, " N"], *, depth: int | None
    ) -> tuple[Int[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Documents that share a term in rank order, exactly, and their scores, then -inf.

        Only the documents of a text's own terms are scored, to the same bits as by :meth:`score`.

        Args:
            encoded: Texts.
            rows: Which of them.
            depth: So many ranks; None: as many as there are documents.
        """
        number = len(self.document_ids)
        wanted = number if depth is None else min(depth, number)
        columns = np.zeros((len(rows), wanted), dtype=np.int64)
        best = np.full((len(rows), wanted), -np.inf, dtype=np.float32)
        some = max(_PRODUCTS // number, 1)
        for first in range(0, len(rows), some):
            asked = encoded.rows[rows[first : first + some].numpy()]
            product = csr_matrix(asked @ self._by_term)
            for row, (scores, found) in enumerate(tops(product, wanted), first):
                columns[row, : len(found)], best[row, : len(found)] = found, scores
        return torch.from_numpy(columns), torch.from_numpy(best)

    @cached_property
    def _by_term(self) -> csr_matrix:
        """[terms, documents]: what a search multiplies with."""
        return csr_matrix(self.weights.T)


def weighted(counts: csr_matrix, term_weights: np.ndarray) -> csr_matrix:
    """Counts times term weights, each row then scaled to length 1 (an empty row stays empty)."""
    rows = csr_matrix(counts @ diags_array(term_weights))
    lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    lengths[lengths == 0] = 1.0
    return csr_matrix(diags_array(1 / lengths) @ rows)
