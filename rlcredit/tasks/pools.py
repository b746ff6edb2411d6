"""The documents that a prompt's search ranks: relevant ones, lexically near ones, others."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from rlcredit.retrieval.top import tops
from rlcredit.text.words import words

_CELLS = 2**24
"""Similarities held at a time, at most."""


def nearest(texts: Sequence[str], documents: Sequence[str], *, num: int) -> NDArray[np.int64]:
    """Rows of the documents with the largest TF-IDF cosine to each text, nearest first: [N, num].

    Ties go to the later document. Fewer columns come out where there are fewer documents.
    """
    analyzer: Any = words
    from sklearn.feature_extraction.text import TfidfVectorizer  # 3 s of every start

    vectorizer = TfidfVectorizer(sublinear_tf=True, analyzer=analyzer)
    latest_first = csr_matrix(csr_matrix(vectorizer.fit_transform(documents))[::-1].T)
    rows = csr_matrix(vectorizer.transform(texts))
    number, num = len(documents), min(num, len(documents))
    step = max(1, _CELLS // number)
    found = np.empty((len(texts), num), dtype=np.int64)
    for first in range(0, len(texts), step):
        similar = csr_matrix(rows[first : first + step] @ latest_first)
        for row, (_, alike) in enumerate(tops(similar, num), first):
            others = np.arange(min(num + len(alike), number))
            filled = np.concatenate([alike, others[~np.isin(others, alike)]])
            found[row] = number - 1 - filled[:num]
    return found


def fill_pool(
    first: Sequence[str],
    catalogue: Sequence[str],
    *,
    size: int,
    barred: Sequence[str] = (),
    seed: int,
    key: str,
) -> tuple[str, ...]:
    """``first``, then random other documents of the catalogue up to ``size``, in id order.

    The draw depends on the seed and the key alone, so a prompt's pool does not depend on the other
    prompts. A smaller catalogue gives a smaller pool; ``first`` is never cut.

    Args:
        first: Documents that must be ranked.
        catalogue: All document ids.
        size: Documents in the pool.
        barred: Documents that may not be drawn.
        seed: Of the draw.
        key: The prompt's id.
    """
    digest = blake2b(key.encode(), digest_size=8).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest, "big")])
    taken: dict[str, None] = dict.fromkeys(first)
    closed = set(barred)
    want = max(0, size - len(taken))
    for row in rng.permutation(len(catalogue)):
        if want == 0:
            break
        document = catalogue[int(row)]
        if document not in taken and document not in closed:
            taken[document] = None
            want -= 1
    return tuple(sorted(taken))
