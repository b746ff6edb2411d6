"""A prompt's documents in the order in which ties are broken, with their grades."""

from collections.abc import Iterable
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from rlcredit.retrieval.base import Index
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.measures import Measure
from rlcredit.types import Prompt

EXACT = 3
"""The grade that reciprocal rank, recall and average precision count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """The K documents that are ranked for a prompt, by descending id."""

    prompt: Prompt
    document_ids: tuple[str, ...]
    documents: Int[Tensor, " K"] | None
    """Rows of the documents in the index; None: the whole index, whose order is the right one."""
    places: Int[Tensor, " R"]
    """Columns of the relevant documents."""
    relevance: Int[Tensor, " R"]
    """Grades of the relevant documents."""
    judged: Int[Tensor, " J"]
    """Grades above 0 of all documents judged for the prompt, in the pool or not."""
    index: Index
    """The index that ranks the documents."""
    _digests: dict[str, str] = field(default_factory=dict, init=False, repr=False)

    def grades(self) -> Int[Tensor, " K"]:
        """Grade of every column; 0 for the unjudged."""
        grades = torch.zeros(len(self.document_ids), dtype=torch.int16)
        grades[self.places] = self.relevance
        return grades

    def digest(self, measure: Measure) -> str:
        """Hash of all that a reward depends on but its text: encoder, index, pool, grades, measure.

        Raises:
            ValueError: If the measure is no dataclass, so that its settings cannot be read.
        """
        if not is_dataclass(measure):
            raise ValueError(
                f"{type(measure).__name__} is no dataclass, and its settings could not be told "
                "from another's in the reward cache; make it a frozen dataclass"
            )
        name = f"{type(measure).__module__} {measure!r}"
        if name not in self._digests:
            self._digests[name] = digest(
                self.index.encoding or "",
                self.index.digest,
                () if self.documents is None else self.document_ids,
                (f"{d} {g}" for d, g in sorted(self.prompt.relevance.items())),
                name,
            )
        return self._digests[name]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pools:
    """Makes each prompt's pool once.

    Raises:
        ValueError: When called: if a prompt has no document of the highest grade (its measures
            would always be 0), names documents that the index lacks, or names one twice.
    """

    index: Index
    whole: bool
    """Rank the whole catalogue, whatever the prompt's pool."""
    _made: dict[str, Pool] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, prompt: Prompt) -> Pool:
        """The pool of a prompt."""
        pool = self._made.get(prompt.prompt_id)
        if pool is None or (pool.prompt is not prompt and pool.prompt != prompt):
            pool = self._made[prompt.prompt_id] = self._make(prompt)
        return pool

    def _make(self, prompt: Prompt) -> Pool:
        if max(prompt.relevance.values(), default=0) < EXACT:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has no document of grade {EXACT} (Exact), so no "
                "text could earn a reward; drop it from the data set"
            )
        self._check(prompt, "judgements", prompt.relevance)
        self._check(prompt, "pool", prompt.pool)
        if len(set(prompt.pool)) < len(prompt.pool):
            raise ValueError(f"the pool of prompt {prompt.prompt_id!r} names a document twice")
        ids, documents = self._ranked_documents(prompt)
        column = self._catalogue[2] if documents is None else {d: i for i, d in enumerate(ids)}
        found = {d: g for d, g in prompt.relevance.items() if d in column}
        return Pool(
            prompt=prompt,
            document_ids=ids,
            documents=documents,
            places=torch.tensor([column[d] for d in found], dtype=torch.long),
            relevance=torch.tensor(list(found.values()), dtype=torch.int16),
            judged=torch.tensor([g for g in prompt.relevance.values() if g], dtype=torch.int16),
            index=self.index,
        )

    def _ranked_documents(self, prompt: Prompt) -> tuple[tuple[str, ...], Int[Tensor, " K"] | None]:
        ordered, rows, _ = self._catalogue
        if self.whole or not prompt.pool:
            return ordered, rows
        ids = tuple(sorted(prompt.pool, reverse=True))
        return ids, torch.tensor([self._row_of[document] for document in ids])

    def _check(self, prompt: Prompt, where: str, documents: Iterable[str]) -> None:
        missing = [document for document in documents if document not in self._row_of]
        if missing:
            raise ValueError(
                f"the {where} of prompt {prompt.prompt_id!r} name {len(missing)} documents that "
                f"the catalogue does not have ({', '.join(missing[:3])}); prompts and catalogue "
                "must come from one data set"
            )

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {document: row for row, document in enumerate(self.index.document_ids)}

    @cached_property
    def _catalogue(self) -> tuple[tuple[str, ...], Int[Tensor, " K"] | None, dict[str, int]]:
        """All ids in descending order, their rows (None if that is the index's order), columns."""
        ids = self.index.document_ids
        ordered = tuple(sorted(ids, reverse=True))
        if ordered == tuple(ids):
            return ordered, None, self._row_of
        rows = torch.tensor([self._row_of[document] for document in ordered])
        return ordered, rows, {document: column for column, document in enumerate(ordered)}
