"""Prompts of one's own, a row each: with answers, or with texts to rank."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Any, ClassVar

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.base import Task
from rlcredit.tasks.instructions import check_instruction
from rlcredit.tasks.published.own_columns import Columns, GivenTeacher, Row, read_rows
from rlcredit.tasks.settings import (
    SPLITS,
    Limits,
    Parts,
    Source,
    VerifiedParts,
    finish,
    finish_verified,
    text_rules,
)
from rlcredit.tasks.splits import sample_by_hash, share_of
from rlcredit.tasks.template import Template
from rlcredit.text.response import Compose, TextRules


class Answers(StrEnum):
    """How an answer is compared: as a text (case and spaces aside), or as a marked number."""

    text = auto()
    number = auto()


@dataclass(frozen=True, kw_only=True)
class OwnRows(ABC):
    """Rows of columns, each a prompt with what belongs to it.

    Rows with candidates make a task of search among each prompt's own; rows with an answer can be
    verified; every other column reaches a reward of one's own. Where no split is given, a hash of
    each prompt deals it out. A text on two sides stays on the held-out one, and is counted.

    Raises:
        ValueError: If a number is out of its range, an instruction has no place for the query, or a
            template is none.
    """

    name: ClassVar[str]
    """Of the data set, as people call it."""
    source: ClassVar[Source]
    columns: Columns = field(default_factory=Columns)
    """What the columns are called."""
    answers: Answers = Answers.text
    instruction: str | None = None
    """What a policy is asked, with ``{query}`` for the prompt; None: the prompt as it stands."""
    template: str | None = None
    """What a policy is asked, as a Jinja template that reads the columns of a row: ``{{ question }}
    Choices: {{ choices | join(", ") }}``. None: the column of the prompt."""
    max_phrases: int | None = None
    """The scored text ends after so many phrases. None: no limit."""
    max_words: int | None = None
    """A longer phrase counts as nothing. None: no limit."""
    unique: bool = False
    """A repeated phrase counts once."""
    candidates: int = 0
    """K: each response offers so many alternative texts (arXiv:2603.29871); 0: it is one."""
    compose: Compose = Compose.own
    validation_share: float = 0.1
    """Share of the training prompts that becomes validation where no file says which."""
    test_share: float = 0.1
    """Share of the prompts that becomes test where no file says which."""
    max_train: int | None = None
    """Most training prompts; None: all."""
    max_validation: int | None = 150
    """Most validation prompts; None: all."""
    max_test: int | None = 200
    """Most test prompts; None: all."""

    def __post_init__(self) -> None:
        """Check what no loader could make sense of."""
        check_instruction(self.instruction)
        if self.template is not None:
            _ = Template.of(self.template)
        for name in ("validation_share", "test_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"dataset.{name}={getattr(self, name)} is not in (0, 1)")
        self._limits()
        self._rules()

    @property
    def reading(self) -> int:
        """Version of how texts are read."""
        return 1

    @abstractmethod
    def content(self) -> tuple[str, ...]:
        """Hashes of what is read."""

    @abstractmethod
    def rows(self) -> Mapping[str, Iterable[tuple[int, Mapping[str, Any]]]]:
        """Number and columns of the rows of each split; ``all`` where one is dealt out."""

    @abstractmethod
    def place(self, split: str) -> str:
        """What a sentence calls the rows of a split."""

    def load(self) -> Task:
        """Read the rows.

        Raises:
            FileNotFoundError: If the folder or a file is missing.
            ValueError: If a line is damaged, a column is missing, or a split is left empty.
        """
        counts: Counter[str] = Counter()
        sides = self._sides(counts)
        prompts = {side: tuple(row.prompt for row in rows) for side, rows in sides.items()}
        given = {row.prompt.prompt_id: row.demonstrations for row in sides["train"]}
        teacher = GivenTeacher(demonstrations=given)
        texts = _texts(row for rows in sides.values() for row in rows)
        if not texts:
            parts = VerifiedParts(teacher=teacher, counts=dict(counts), **prompts)
            asked = self.instruction
            return finish_verified(self.name, self.source, parts, self._rules(), instruction=asked)
        counts["documents"] = len(texts)
        documents = Documents(
            ids=tuple(sorted(texts)), texts=tuple(texts[i] for i in sorted(texts))
        )
        parts = Parts(
            documents=documents,
            train=prompts["train"],
            validation=prompts["validation"],
            test=prompts["test"],
            teacher=teacher,
            counts=dict(counts),
        )
        return finish(self.name, self.source, parts, self._rules(), instruction=self.instruction)

    def _sides(self, counts: Counter[str]) -> dict[str, list[Row]]:
        """The rows of each split, each text once, held-out ones first."""
        read = {split: (self.place(split), rows) for split, rows in self.rows().items()}
        template = None if self.template is None else Template.of(self.template)
        numeric = self.answers is Answers.number
        rows = read_rows(read, self.columns, numeric=numeric, template=template)
        sides: dict[str, list[Row]] = {split: [] for split in SPLITS}
        seen: set[str] = set()
        dealt = [(self._side(split, row.key, read.keys()), row) for split, row in rows]
        for side in ("test", "validation", "train"):
            for row in (row for own, row in dealt if own == side):
                if row.key in seen:
                    counts["prompts that repeat another's text (dropped)"] += 1
                    continue
                seen.add(row.key)
                sides[side].append(row)
        counts["prompts read"] = len(dealt)
        return {side: self._limited(side, own) for side, own in sides.items()}

    def _side(self, split: str, key: str, given: Collection[str]) -> str:
        if split in ("validation", "test"):
            return split
        if "test" not in given and share_of(key, purpose="test") < self.test_share:
            return "test"
        drawn = share_of(key, purpose="validation") < self.validation_share
        return "validation" if "validation" not in given and drawn else "train"

    def _limited(self, side: str, rows: list[Row]) -> list[Row]:
        by_id = {row.prompt.prompt_id: row for row in rows}
        return [
            by_id[key] for key in sample_by_hash(by_id, self._limits().of(side), purpose="limit")
        ]

    def _limits(self) -> Limits:
        return Limits(
            train=self.max_train,
            validation=self.max_validation,
            test=self.max_test,
            documents=None,
        )

    def _rules(self) -> TextRules:
        return text_rules(
            self.source,
            max_phrases=self.max_phrases,
            max_words=self.max_words,
            unique=self.unique,
            new_words=False,
            void_overlong=False,
            num_candidates=self.candidates,
            compose=self.compose,
        )


def _texts(rows: Iterable[Row]) -> dict[str, str]:
    """All candidates; an id means one text wherever it stands."""
    texts: dict[str, str] = {}
    for row in rows:
        for document, text in row.candidates.items():
            if texts.setdefault(document, text) != text:
                raise ValueError(
                    f"candidate {document!r} of prompt {row.prompt.prompt_id!r} has another text "
                    "elsewhere; an id means one text"
                )
    return texts
