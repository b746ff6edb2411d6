"""Evaluations on disk, with every prompt's score: a resumed run, and any later table, read them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.credit_check import CreditCheck
from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.evaluation.samples import Completion, SegmentCredit
from rlcredit.tracking.lines import replace_file


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
    path.parent.mkdir(parents=True, exist_ok=True)
    record = asdict(evaluation) | {
        "digest": digest,
        "scores": [
            {"retriever": cell.retriever, "measure": cell.measure, "source": cell.source}
            | {"values": values}
            for cell, values in evaluation.scores.items()
        ],
    }
    replace_file(path, json.dumps(record, ensure_ascii=False, allow_nan=False))
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
        record = json.loads(path.read_text(encoding="utf-8"))
        if digest not in (None, record.pop("digest")):
            return None
        return _evaluation(record)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no evaluation of this version ({error!r}); remove the file, and it is made "
            "again"
        ) from error


def _evaluation(record: dict[str, Any]) -> Evaluation:
    credit = record["credit"]
    return Evaluation(
        split=record["split"],
        phase=record["phase"],
        prompt_ids=tuple(record["prompt_ids"]),
        scores={
            Cell(row["retriever"], row["measure"], Source(row["source"])): tuple(row["values"])
            for row in record["scores"]
        },
        responses={
            Source(source): tuple(tuple(row) for row in rows)
            for source, rows in record["responses"].items()
        },
        credit=None if credit is None else CreditCheck(**credit),
        figures=record.get("figures", {}),  # later than the first files
        examples=tuple(
            Completion(
                **{key: value for key, value in example.items() if key != "segments"},
                segments=tuple(SegmentCredit(**segment) for segment in example["segments"]),
            )
            for example in record["examples"]
        ),
    )
