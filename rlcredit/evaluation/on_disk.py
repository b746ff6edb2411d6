"""Evaluations on disk, with every prompt's score: a resumed run, and any later table, read them."""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.files import replace_file
from rlcredit.tracking.strict_json import checked_text, convert, read_checked


def evaluation_path(run: Path, split: str, phase: str) -> Path:
    """Where a run keeps an evaluation."""
    return run / "evaluations" / f"{split}-{phase}.json"


def save_evaluation(run: Path, evaluation: Evaluation, *, digest: str) -> Path:
    """Write ``evaluations/<split>-<phase>.json``, whole or not at all.

    Args:
        run: The run's folder.
        evaluation: To be written.
        digest: Of all that the scores depend on.
    """
    path = evaluation_path(run, evaluation.split, evaluation.phase)
    record = asdict(evaluation) | {
        "digest": digest,
        "scores": [
            cell._asdict() | {"values": values} for cell, values in evaluation.scores.items()
        ],
    }
    replace_file(path, checked_text(record))
    return path


def load_evaluation(
    run: Path, split: str, phase: str, *, digest: str | None = None
) -> Evaluation | None:
    """Read an evaluation back; None if there is none, or it is not of the digest that is given.

    Raises:
        ValueError: If the file is not an evaluation.
    """
    path = evaluation_path(run, split, phase)
    if not path.exists():
        return None
    try:
        stored = read_scores(path)
        if digest not in (None, stored.digest):
            return None
        record = read_checked(path)
        del record["digest"]
        evaluation = convert(record | {"scores": {}}, Evaluation)
    except ValueError as error:
        raise ValueError(
            f"{path} is no evaluation of this version ({error}); remove the file, and it is made "
            "again"
        ) from error
    return replace(evaluation, scores=stored.by_cell())


@dataclass(frozen=True, kw_only=True)
class CellScores:
    """The scores of one cell, as a file holds them."""

    retriever: str
    measure: str
    source: Source
    values: tuple[float | None, ...]
    """One per prompt; None where the measure is undefined for it."""


@dataclass(frozen=True, kw_only=True)
class StoredScores:
    """What a file of an evaluation says of scores."""

    digest: str
    prompt_ids: tuple[str, ...]
    scores: tuple[CellScores, ...]
    families: tuple[int, ...] = ()

    def family_numbers(self) -> NDArray[np.int64] | None:
        """[P], the number of each prompt's family; None where none was recorded.

        Raises:
            ValueError: If there is not one for each prompt.
        """
        if len(self.families) not in (0, len(self.prompt_ids)):
            raise ValueError(f"{len(self.families)} families for {len(self.prompt_ids)} prompts")
        return np.array(self.families, dtype=np.int64) if self.families else None

    def by_cell(self) -> dict[Cell, tuple[float, ...]]:
        """The scores of each cell, NaN where the measure is undefined."""
        return {
            Cell(row.retriever, row.measure, row.source): tuple(
                math.nan if value is None else value for value in row.values
            )
            for row in self.scores
        }


def read_scores(path: Path) -> StoredScores:
    """Read the scores alone; what else the file holds is not converted.

    Raises:
        ValueError: If they are not there, or have another shape.
    """
    return msgspec.convert(read_checked(path), StoredScores)
