"""GSM8K: grade-school word problems with numeric answers (arXiv:2110.14168)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from rlcredit.identity import ASIDE
from rlcredit.rewards.verifier import NumericProblem
from rlcredit.tasks.base import Task
from rlcredit.tasks.instructions import check_instruction
from rlcredit.tasks.published.hub import hub_rows
from rlcredit.tasks.published.json_lines import read_lines
from rlcredit.tasks.published.tables import file_digest
from rlcredit.tasks.settings import Source, VerifiedParts, finish_verified, reading
from rlcredit.tasks.splits import sample_by_hash, share_of
from rlcredit.text.numerals import final_answer, number
from rlcredit.text.response import Verbatim, segment_key
from rlcredit.types import Prompt

QUESTION, ANSWER = "question", "answer"
ASKED = r"Please reason step by step, and put your final answer within \boxed{}."
"""What stands behind each question, as in arXiv:2602.01062, appendix H."""


Rows = Mapping[str, Sequence[tuple[str, str]]]
"""train and test -> (question, published solution)."""


@dataclass(frozen=True, kw_only=True)
class GSM8K:
    """Questions whose answers are numbers.

    ``path`` reads ``train.jsonl`` and ``test.jsonl`` of the published repository, ``hub`` the same
    from the Hugging Face hub. The published split is respected; validation is a part of its train.
    Rows without a numeric answer, and training questions that the test side holds too, are dropped
    and counted. Limits of None mean all.

    Raises:
        ValueError: If a number is out of its range, or the source needs a path and has none.
    """

    source: Source = Source.hub
    path: str | None = field(default=None, metadata=ASIDE)
    """Folder of the published files; ``source=path`` only."""
    hub_name: str = "openai/gsm8k"
    """Name on the hub, or a local folder of the same layout; ``source=hub`` only."""
    revision: str | None = None
    """Commit on the hub; None: the newest."""
    validation_share: float = 0.05
    """Share of the published training questions that becomes validation."""
    instruction: str | None = None
    """What a policy is asked instead of the task's own instruction, with ``{query}`` for what it is
    asked about; None: the task's own."""
    max_train: int | None = None
    """Most training prompts; None: all."""
    max_validation: int | None = 100
    """Most validation prompts; None: all."""
    max_test: int | None = 200
    """Most test prompts; None: all."""

    def __post_init__(self) -> None:
        """Check what no loader could make sense of."""
        check_instruction(self.instruction)
        if self.source is Source.generated:
            raise ValueError(
                "dataset.source=generated, and GSM8K is not generated; use path or hub, or "
                "dataset=countdown"
            )
        if self.source is Source.path and self.path is None:
            raise ValueError(
                "dataset.source=path needs dataset.path=<folder with train.jsonl and test.jsonl>"
            )
        if not 0 < self.validation_share < 1:
            raise ValueError(f"dataset.validation_share={self.validation_share} is not in (0, 1)")
        for name in ("max_train", "max_validation", "max_test"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"dataset.{name}={limit} is below 1; null means no limit")

    @property
    def candidates(self) -> int:
        """A response is one answer."""
        return 0

    @property
    def reading(self) -> int:
        """Version of how texts are read."""
        return reading(self.source, Verbatim())

    def content(self) -> tuple[str, ...]:
        """The hashes of the files."""
        files = self._files().values() if self.source is Source.path else ()
        return tuple(map(file_digest, files))

    def load(self) -> Task:
        """Read the set.

        Raises:
            FileNotFoundError: If the folder or a file is missing.
            ConnectionError: If the hub cannot be reached and the set is not in its cache.
            ValueError: If a file is damaged, lacks a column, or a split is left empty.
        """
        load = {Source.path: self._from_path, Source.hub: self._from_hub}[self.source]
        parts, asked = self._parts(load()), self.instruction
        return finish_verified("gsm8k", self.source, parts, Verbatim(), instruction=asked)

    def _from_path(self) -> Rows:
        return {split: list(_read(file)) for split, file in self._files().items()}

    def _from_hub(self) -> Rows:
        tables = hub_rows(
            self.hub_name, part="main", revision=self.revision, columns=(QUESTION, ANSWER)
        )
        return {
            split: [(question, answer) for question, answer in table.rows(QUESTION, ANSWER)]
            for split, table in tables.items()
        }

    def _files(self) -> dict[str, Path]:
        folder = Path(self.path or "")
        files = {split: folder / f"{split}.jsonl" for split in ("train", "test")}
        missing = [str(file) for file in files.values() if not file.is_file()]
        if missing:
            raise FileNotFoundError(
                f"there is no {' and no '.join(missing)}; dataset.path must be the folder of "
                "GSM8K's train.jsonl and test.jsonl"
            )
        return files

    def _parts(self, rows: Rows) -> VerifiedParts:
        counts = {"read": sum(len(own) for own in rows.values())}
        kept = {
            f"{split}-{row}": pair
            for split, own in rows.items()
            for row, pair in enumerate(own)
            if _truth(pair[1]) is not None
        }
        counts["without a numeric answer"] = counts["read"] - len(kept)
        test = {key: pair for key, pair in kept.items() if key.startswith("test-")}
        held_out = {segment_key(question) for question, _ in test.values()}
        own = {key: pair for key, pair in kept.items() if key not in test}
        train = {key: pair for key, pair in own.items() if segment_key(pair[0]) not in held_out}
        counts["in train and in test"] = len(own) - len(train)
        sides: dict[str, list[str]] = {"train": [], "validation": [], "test": list(test)}
        for key, (question, _) in train.items():
            share = share_of(segment_key(question), purpose="gsm8k validation")
            sides["validation" if share < self.validation_share else "train"].append(key)
        chosen = {
            side: sample_by_hash(keys, getattr(self, f"max_{side}"), purpose="gsm8k")
            for side, keys in sides.items()
        }
        prompts = {
            side: tuple(_prompt(key, *kept[key]) for key in keys) for side, keys in chosen.items()
        }
        solutions = {key: kept[key][1] for key in chosen["train"]}
        return VerifiedParts(teacher=SolutionTeacher(solutions=solutions), counts=counts, **prompts)


@dataclass(frozen=True, kw_only=True)
class SolutionTeacher:
    """Writes the published solution of a training question."""

    solutions: Mapping[str, str]
    """prompt_id -> solution, ``#### answer`` in its last line."""

    def content(self) -> Iterator[str]:
        """All that a demonstration depends on, for hashing."""
        for prompt_id, solution in self.solutions.items():
            yield from (prompt_id, solution)

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """The solution; nothing is drawn.

        Raises:
            ValueError: If the prompt is not a training prompt.
        """
        del generator
        if prompt.prompt_id not in self.solutions:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} is not a training prompt, and demonstrations are "
                "written for training prompts only"
            )
        return self.solutions[prompt.prompt_id]


def _truth(solution: str) -> str | None:
    """What stands behind the mark, where it is a number."""
    answer = final_answer(solution)
    return answer if answer is not None and number(answer) is not None else None


def _prompt(prompt_id: str, question: str, solution: str) -> Prompt:
    answer = _truth(solution)
    assert answer is not None, "rows without an answer were dropped"
    return Prompt(
        prompt_id=prompt_id,
        text=f"{question}\n{ASKED}",
        query="",
        relevance={},
        problem=NumericProblem(answer=answer),
    )


def _read(file: Path) -> Iterator[tuple[str, str]]:
    """Questions and solutions, line by line."""
    for row, record in read_lines(file):
        pair = record.get(QUESTION), record.get(ANSWER)
        question, answer = pair
        if not isinstance(question, str) or not isinstance(answer, str):
            raise ValueError(
                f"line {row} of {file} is no record of GSM8K: question and answer must be texts, "
                f'not {pair}; expected {{"{QUESTION}": ..., "{ANSWER}": ...}}; download it again'
            )
        yield question, answer
