"""Measures of a ranking: grades in rank order in, a number per ranking out.

Knows grades only, neither documents nor texts. The definitions and the way ties are broken are
trec_eval's, so the figures equal those of ``ir-measures``. Everything is computed in float64, for
all rankings at once.
"""

from dataclasses import dataclass, field
from typing import NoReturn, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Measure(Protocol):
    """How good a ranking is."""

    @property
    def name(self) -> str:
        """The name in tables: ``nDCG@10``."""
        ...

    @property
    def cutoff(self) -> int | None:
        """Ranks below this one do not matter; None: all do."""
        ...

    def __call__(
        self, ranked: Int[Tensor, "N K"], judged: Int[Tensor, "N J"]
    ) -> Float[Tensor, " N"]:
        """The measure of N rankings, in [0, 1]; 0 where nothing relevant is judged.

        Args:
            ranked: Grades in rank order; 0 for documents not judged or not retrieved. The first
                ``cutoff`` ranks suffice.
            judged: Grades of all documents judged for the ranking's prompt, padded with 0.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class NDCG:
    """Discounted cumulative gain, gains over log2(rank + 1), relative to the ideal order's.

    Raises:
        ValueError: If the cut-off is below 1 or a gain negative; when called, for a grade without
            a gain.
    """

    cutoff: int | None = 10
    gains: dict[int, int] = field(default_factory=lambda: {3: 100, 2: 10, 1: 1})
    """Grade -> gain; grade 0 gains 0."""

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_cutoff(self.cutoff)
        if any(grade < 1 or gain < 0 for grade, gain in self.gains.items()):
            raise ValueError(f"gains={self.gains}: grades start at 1 and no gain is negative")

    @property
    def name(self) -> str:
        """The name in tables: ``nDCG@10``."""
        return _named("nDCG", self.cutoff)

    def __call__(
        self, ranked: Int[Tensor, "N K"], judged: Int[Tensor, "N J"]
    ) -> Float[Tensor, " N"]:
        """Divide the discounted gain of each ranking by the ideal order's; in [0, 1]."""
        found = (self._gain(ranked[:, : self.cutoff]) * _discounts(ranked, self.cutoff)).sum(1)
        ideal = self._ideal(judged)
        return torch.where(ideal > 0, found / ideal.clamp(min=1e-300), 0.0)

    def _ideal(self, judged: Int[Tensor, "N J"]) -> Float[Tensor, " N"]:
        """Gain of the best order, in which the documents of each gain fill the next ranks."""
        sums = torch.nn.functional.pad(_discounts(judged, self.cutoff).cumsum(0), (1, 0))
        last = len(sums) - 1
        filled = torch.zeros(len(judged), dtype=torch.long)
        ideal = torch.zeros(len(judged), dtype=torch.float64)
        for grade, gain in sorted(self.gains.items(), key=lambda item: -item[1]):
            before, filled = filled, filled + (judged == grade).sum(1)
            ideal += gain * (sums[filled.clamp(max=last)] - sums[before.clamp(max=last)])
        if int(filled.sum()) != int((judged != 0).sum()):
            self._refuse(judged)
        return ideal

    def _gain(self, grades: Int[Tensor, "N K"]) -> Float[Tensor, "N K"]:
        table = torch.full((max(self.gains, default=0) + 1,), torch.nan, dtype=torch.float64)
        table[0] = 0.0
        for grade, gain in self.gains.items():
            table[grade] = gain
        gains = table[grades.long().clamp(0, len(table) - 1)]
        if gains.isnan().any() or (grades.numel() and int(grades.max()) >= len(table)):
            self._refuse(grades)
        return gains

    def _refuse(self, grades: Int[Tensor, "N K"]) -> NoReturn:
        missing = sorted(set(grades.unique().tolist()) - {0, *self.gains})
        raise ValueError(
            f"grades {missing} have no gain in {self.gains}; add them to reward.measure.gains"
        )


@dataclass(frozen=True, kw_only=True)
class ReciprocalRank:
    """One over the rank of the first document of at least ``min_grade``.

    Raises:
        ValueError: If the cut-off or the grade is below 1.
    """

    cutoff: int | None = None
    min_grade: int = 3

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_cutoff(self.cutoff)
        _check_grade(self.min_grade)

    @property
    def name(self) -> str:
        """The name in tables: ``RR@10``."""
        return _named("RR", self.cutoff)

    def __call__(
        self, ranked: Int[Tensor, "N K"], judged: Int[Tensor, "N J"]
    ) -> Float[Tensor, " N"]:
        """Take 1 / (rank of the first relevant document) of each ranking; 0 without one."""
        hits = ranked[:, : self.cutoff] >= self.min_grade
        return (hits.double() / _ranks(hits)).amax(dim=1) if hits.shape[1] else hits.double().sum(1)


@dataclass(frozen=True, kw_only=True)
class Recall:
    """Share of the documents of at least ``min_grade`` that stand in the first ``cutoff`` ranks.

    Raises:
        ValueError: If the cut-off or the grade is below 1.
    """

    cutoff: int | None = 10
    min_grade: int = 3

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_cutoff(self.cutoff)
        _check_grade(self.min_grade)

    @property
    def name(self) -> str:
        """The name in tables: ``R@10``."""
        return _named("R", self.cutoff)

    def __call__(
        self, ranked: Int[Tensor, "N K"], judged: Int[Tensor, "N J"]
    ) -> Float[Tensor, " N"]:
        """Divide the relevant documents found by those judged, for each ranking."""
        found = (ranked[:, : self.cutoff] >= self.min_grade).sum(1).double()
        return found / (judged >= self.min_grade).sum(1).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class AveragePrecision:
    """Mean over the documents of at least ``min_grade`` of the precision at their rank.

    A document below the cut-off, or not retrieved, counts 0.

    Raises:
        ValueError: If the cut-off or the grade is below 1.
    """

    cutoff: int | None = None
    min_grade: int = 3

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_cutoff(self.cutoff)
        _check_grade(self.min_grade)

    @property
    def name(self) -> str:
        """The name in tables: ``AP``, with a cut-off ``AP@100``."""
        return _named("AP", self.cutoff)

    def __call__(
        self, ranked: Int[Tensor, "N K"], judged: Int[Tensor, "N J"]
    ) -> Float[Tensor, " N"]:
        """Average the precision at each relevant document's rank, for each ranking."""
        hits = ranked[:, : self.cutoff] >= self.min_grade
        precision = hits.cumsum(1) / _ranks(hits)
        return (precision * hits).sum(1) / (judged >= self.min_grade).sum(1).clamp(min=1)


def order(scores: Float[Tensor, "N K"], *, depth: int | None = None) -> Int[Tensor, "N D"]:
    """Columns by descending score, the earlier of two equal ones first.

    With columns in descending order of document ids this is trec_eval's order. Score and column
    are packed into one integer: integers sort several times faster than floats do stably.

    Args:
        scores: Compared in float32; -inf comes last, NaN is not allowed.
        depth: So many ranks; None: all of them.
    """
    values = np.ascontiguousarray(scores.float().cpu().numpy()) + np.float32(0)  # no negative zero
    bits = values.view(np.int32).astype(np.int64)
    descending = np.where(bits < 0, bits & 0x7FFFFFFF, ~bits)
    keys = (descending << 32) + np.arange(values.shape[1])
    if depth is not None and depth < keys.shape[1]:
        keys = np.partition(keys, depth - 1, axis=1)[:, :depth]
    return torch.from_numpy(np.sort(keys, axis=1) & 0xFFFFFFFF)


def rank_grades(
    columns: Int[Tensor, "N D"], scores: Float[Tensor, "N D"], grades: Int[Tensor, " K"]
) -> Int[Tensor, "N D"]:
    """Grades in rank order; 0 for documents that are not retrieved (score -inf).

    Args:
        columns: Of the documents in rank order (:func:`order`).
        scores: Of the same documents.
        grades: Of all K documents.
    """
    return torch.where(scores > -torch.inf, grades[columns], 0)


def _discounts(columns: Tensor, cutoff: int | None) -> Float[Tensor, " K"]:
    """1 / log2(rank + 1) of each column that counts."""
    return 1 / torch.log2(_ranks(columns[:, :cutoff]) + 1)


def _ranks(columns: Tensor) -> Float[Tensor, " K"]:
    return torch.arange(1, columns.shape[1] + 1, dtype=torch.float64)


def _named(measure: str, cutoff: int | None) -> str:
    return measure if cutoff is None else f"{measure}@{cutoff}"


def _check_cutoff(cutoff: int | None) -> None:
    if cutoff is not None and cutoff < 1:
        raise ValueError(f"cutoff={cutoff}, but a measure looks at 1 rank or more; null means all")


def _check_grade(grade: int) -> None:
    if grade < 1:
        raise ValueError(f"min_grade={grade}, but a relevant document's grade is 1 or more")
