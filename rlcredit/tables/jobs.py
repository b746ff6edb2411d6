"""The runs that a table asks for, and what there is of each."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    """Overrides but ``seed=``; the jobs of all seeds share them unless each has data of its own."""
    overrides: tuple[str, ...]
    """All of them."""
    digest: str
    """Empty where its data are not here: the digest has their content in it."""
    kin: str = ""
    """Hash of its identity without ``numerics``; empty where its data are not here."""
    numerics: Mapping[str, int] = field(default_factory=dict)
    """Component -> the number that it raises when its numbers change without a setting."""
    folder: Path
    evaluation: EvaluationSettings
    """How it is to be scored, which the digest leaves out."""
    reads_validation: bool
    """Whether the table shows scores of the validation split, so that their steps matter."""
    lacks: str = ""
    """What its policy needs and is not here, in words; empty: nothing."""
    conf: str = ""
    """Folder of configs that it is composed from; empty: today's."""

    @property
    def command(self) -> str:
        """What runs it alone."""
        return command(self.overrides, self.conf)


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """What there is of a planned job: a record, or the reason why there is none."""

    job: PlannedJob
    record: Record | None
    gap: str = ""
    changed: str = ""
    """Components whose numbers have changed without a setting since the run was made, as
    ``policy (3 then, 4 now)``; empty: none."""


def command(overrides: Sequence[str], conf: str = "") -> str:
    """The command line of a run."""
    of_folder = ["--config-path", conf] if conf else []
    return shlex.join(["python", "train.py", *of_folder, *overrides])
