"""The best of many scored documents, exactly: equal scores by column, as everywhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

Scores = NDArray[np.floating]
Columns = NDArray[np.int64]


def top(scores: Scores, columns: Columns, depth: int) -> tuple[Scores, Columns]:
    """At most ``depth`` of the scored columns, best first, the earlier of two equal ones first.

    Args:
        scores: One per column; NaN counts as the best.
        columns: In any order.
        depth: 1 or more.
    """
    if depth < len(scores):
        least = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        kept = ~(scores < least)
        scores, columns = scores[kept], columns[kept]
    ranks = np.lexsort((columns, -scores, ~np.isnan(scores)))[:depth]
    return scores[ranks], columns[ranks]


def tops(product: csr_matrix, depth: int) -> Iterator[tuple[Scores, Columns]]:
    """The best columns of each row of a sparse product; what is 0 in it is none of them."""
    starts: Any = product.indptr
    scores: Any = product.data
    columns: Any = product.indices
    for start, end in pairwise(starts.tolist()):
        positive = start + np.flatnonzero(scores[start:end] > 0)
        yield top(scores[positive], columns[positive].astype(np.int64), depth)


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The best columns of N rows of scores that come block by block, in the order of columns.

    A score below a row's ``depth``-th best so far is passed over, so that after the first block few
    are put in order.
    """

    depth: int
    num_rows: int
    _rows: list[tuple[Scores, Columns]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        nothing = np.zeros(0, dtype=np.float32), np.zeros(0, dtype=np.int64)
        self._rows.extend([nothing] * self.num_rows)

    def add(self, block: Float[Tensor, "N B"], first: int) -> None:
        """Take the scores of the columns from ``first`` on into account."""
        for row, scores in enumerate(block.numpy()):
            best, columns = self._rows[row]
            passed = np.arange(len(scores))
            if len(best) == self.depth:
                passed = np.flatnonzero(~(scores <= best[-1]))
            best = np.concatenate([best, scores[passed]])
            columns = np.concatenate([columns, passed + first])
            self._rows[row] = top(best, columns, self.depth)

    @property
    def found(self) -> tuple[Int[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Columns in rank order, and their scores."""
        scores = [torch.from_numpy(scores) for scores, _ in self._rows]
        columns = [torch.from_numpy(columns) for _, columns in self._rows]
        if not scores:
            return torch.zeros(0, self.depth, dtype=torch.long), torch.zeros(0, self.depth)
        return torch.stack(columns), torch.stack(scores)
