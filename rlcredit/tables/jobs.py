"""The runs that a table asks for, and what there is of each."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from rlcredit.tables.records import Record
from rlcredit.trainer.settings import EvaluationSettings


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """A run that a table needs."""

    row: str
    data: str
    seed: int
    settings: tuple[str, ...]
    """Overrides that the jobs of all seeds share."""
    overrides: tuple[str, ...]
    """All of them."""
    digest: str
    """Empty where its data are not here: the digest has their content in it."""
    folder: Path
    evaluation: EvaluationSettings
    """How it is to be scored, which the digest leaves out."""
    reads_validation: bool
    """Whether the table shows scores of the validation split, so that their steps matter."""

    @property
    def command(self) -> str:
        """What runs it alone."""
        return command(self.overrides)


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """What there is of a planned job: a record, or the reason why there is none."""

    job: PlannedJob
    record: Record | None
    gap: str = ""


def command(overrides: tuple[str, ...]) -> str:
    """The command line of a run."""
    return shlex.join(["python", "train.py", *overrides])
