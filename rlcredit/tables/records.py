"""Finished runs as tables read them: run folders, and the compact records that are kept of them.

A compact record has a run folder's layout without what is large (weights, checkpoints, deep
rankings): ``summary.json``, ``overrides.yaml``, ``config.yaml``, ``scores.json.gz`` with every
query's scores, ``metrics.jsonl.gz``, and the training retriever's runs cut at rank 10.
"""

import gzip
import json
import math
import re
import shutil
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from rlcredit.report.evaluations import evaluation_path
from rlcredit.report.run_folder import FAILURE_FILE, SCORES_FILE, RunSummary, Status
from rlcredit.tables.declare import Phase
from rlcredit.trainer.evaluate import Cell, Source

RUN_DEPTH = 10
REMEDY = "restore it, or move the folder away and run again"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A look at the test split: every query's score by cell name (``bm25/ndcg@10_sampled``)."""

    prompt_ids: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]
    """[Q]; NaN where a measure is not defined for a query."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished run."""

    folder: Path
    summary: RunSummary
    scores: Mapping[Phase, Scores]
    logged: tuple[Mapping[str, int | float], ...]
    """Lines of metrics.jsonl."""
    problems: tuple[str, ...] = ()
    """What could not be read."""


def find_records(roots: Sequence[Path]) -> tuple[dict[str, list[Path]], list[str]]:
    """Folders of finished runs by digest, and the summaries that cannot be read."""
    found: dict[str, list[Path]] = {}
    problems: list[str] = []
    for root in roots:
        for path in sorted(root.rglob("summary.json")):
            try:
                summary = RunSummary.read(path.parent)
            except (ValueError, OSError) as error:
                problems.append(str(error))
                continue
            if summary is not None and summary.status is Status.finished:
                found.setdefault(summary.digest, []).append(path.parent)
    return {digest: list(dict.fromkeys(paths)) for digest, paths in found.items()}, problems


def revision(record: Record) -> str:
    """Of the code that made a run, with ``+changes`` where files differed from it.

    Raises:
        ValueError: If none was recorded: a figure without provenance is not shown.
    """
    known = record.summary.code_revision
    if not known:
        raise ValueError(f"{record.folder}: no code revision was recorded; {REMEDY}")
    return known


def why_unfinished(folder: Path) -> str:
    """What became of a run that is not among the finished ones."""
    failure = folder / FAILURE_FILE
    if failure.exists():
        return "failed: " + (failure.read_text(encoding="utf-8").strip().splitlines() or ["?"])[-1]
    if folder.exists():
        return f"unfinished: {folder} has no readable summary.json"
    return "not run"


def read_record(folder: Path) -> Record:
    """A finished run, with what could not be read named in ``problems``.

    Raises:
        ValueError: If it has no summary.
    """
    summary = RunSummary.read(folder)
    if summary is None:
        raise ValueError(f"{folder} holds no summary.json; the run is not finished")
    problems: list[str] = []
    scores: dict[Phase, Scores] = {}
    logged: tuple[Mapping[str, int | float], ...] = ()
    try:
        scores = _read_scores(folder)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        problems.append(f"{folder}: scores cannot be read ({_said(error)}): {REMEDY}")
    try:
        logged = _read_lines(folder, problems)
    except (ValueError, OSError) as error:
        problems.append(f"{folder}: metrics.jsonl cannot be read ({_said(error)}): {REMEDY}")
    return Record(
        folder=folder, summary=summary, scores=scores, logged=logged, problems=tuple(problems)
    )


def _said(error: Exception) -> str:
    """Errors of a wrong type in a file are known by their kind alone."""
    own = isinstance(error, ValueError | OSError)
    return str(error) if own else f"{type(error).__name__}: {error}"


def made_with(folder: Path) -> tuple[str, ...]:
    """The overrides that a run was made with.

    Raises:
        ValueError: If the folder does not say.
    """
    for path in (folder / "overrides.yaml", folder / ".hydra" / "overrides.yaml"):
        if path.exists():
            try:
                words = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError) as error:
                raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error
            if not isinstance(words, list):
                raise ValueError(f"{path} holds no list of overrides")
            return tuple(map(str, words))
    raise ValueError(f"{folder} has no overrides.yaml")


def agree(one: Record, other: Record) -> bool:
    """Whether two runs measured the same, wherever both measured."""
    ours, theirs = one.summary.measures, other.summary.measures
    return all(ours[name] == theirs[name] for name in ours if name in theirs)


def conflict(records: Sequence[Record]) -> str | None:
    """A sentence where runs of one digest measured different things; None where they agree."""
    first = records[0]
    for other in records[1:]:
        if other.summary.digest != first.summary.digest:
            return (
                f"{first.folder} and {other.folder} were asked for alike, of different data, which "
                "are not here to say which is meant"
            )
        if not agree(first, other):
            return (
                f"{first.folder} and {other.folder} have the same digest and different results; "
                "neither is shown. Remove the wrong one"
            )
    return None


def _read_scores(folder: Path) -> dict[Phase, Scores]:
    packed = folder / SCORES_FILE
    if packed.exists():
        kept = json.loads(_unpacked(packed))
        return {Phase(phase): _scores(record) for phase, record in kept.items()}
    scores: dict[Phase, Scores] = {}
    for phase in Phase:
        path = evaluation_path(folder, "test", phase)
        if not path.exists():
            raise ValueError(f"{path.name} is missing")
        try:
            scores[phase] = _evaluated(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path.name}: {_said(error)}") from error
    return scores


def _evaluated(record: Mapping[str, Any]) -> Scores:
    values = {
        Cell(row["retriever"], row["measure"], Source(row["source"])).name: row["values"]
        for row in record["scores"]
    }
    return _scores({"prompt_ids": record["prompt_ids"], "values": values})


def _scores(record: Mapping[str, Any]) -> Scores:
    prompt_ids = tuple(record["prompt_ids"])
    values = {
        name: np.array([math.nan if v is None else v for v in row], dtype=np.float64)
        for name, row in record["values"].items()
    }
    short = [name for name, row in values.items() if len(row) != len(prompt_ids)]
    if short:
        raise ValueError(f"{short[0]} has not one score for each of {len(prompt_ids)} queries")
    return Scores(prompt_ids=prompt_ids, values=values)


def _read_lines(folder: Path, problems: list[str]) -> tuple[Mapping[str, int | float], ...]:
    packed, plain = folder / "metrics.jsonl.gz", folder / "metrics.jsonl"
    if packed.exists():
        text = _unpacked(packed)
    elif plain.exists():
        text = plain.read_text(encoding="utf-8", errors="replace")
    else:
        problems.append(f"{folder}: no metrics.jsonl, so nothing logged is shown")
        return ()
    lines: list[Mapping[str, int | float]] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            lines.append(_numbers(json.loads(line)))
        except ValueError:
            problems.append(f"{folder}: line {number} of metrics.jsonl is broken and left out")
    return tuple(lines)


def _numbers(line: object) -> Mapping[str, int | float]:
    if not isinstance(line, dict):
        raise ValueError(f"{line!r} is no record of metrics")
    return {str(k): v for k, v in line.items() if isinstance(v, int | float)}


def keep(run: Path, kept: Path) -> None:
    """Write the compact record of a finished run.

    Raises:
        ValueError: If the run is not finished, or its scores cannot be read.
        OSError: If a file cannot be read or written.
    """
    record = read_record(run)
    if not record.scores:
        raise ValueError("; ".join(record.problems))
    kept.mkdir(parents=True, exist_ok=True)
    scores = {
        phase: {
            "prompt_ids": list(scores.prompt_ids),
            "values": {
                name: [None if math.isnan(v) else v for v in row.tolist()]
                for name, row in scores.values.items()
            },
        }
        for phase, scores in record.scores.items()
    }
    (kept / SCORES_FILE).write_bytes(_packed(json.dumps(scores)))
    lines = "".join(json.dumps(line) + "\n" for line in record.logged)
    (kept / "metrics.jsonl.gz").write_bytes(_packed(lines))
    retriever = record.summary.headline.split("/")[0]
    for path in sorted((run / "trec" / "test-after").glob("*.run.gz")):
        if _is_kept(path.name, retriever):
            (kept / path.name).write_bytes(_packed(_cut(path)))
    for name in ("overrides.yaml", "config.yaml"):
        shutil.copyfile(run / ".hydra" / name, kept / name)
    shutil.copyfile(run / "summary.json", kept / "summary.json")  # last: it says "finished"


def _is_kept(name: str, retriever: str) -> bool:
    """Greedy runs and the first sample's, of each candidate where a response is a set of them."""
    kept = rf"{re.escape(retriever)}\.(greedy(\.c\d+)?|sampled(\.c\d+)?(-0)?)\.run\.gz"
    return re.fullmatch(kept, name) is not None


def _cut(path: Path) -> str:
    lines = _unpacked(path).splitlines(keepends=True)
    try:
        return "".join(line for line in lines if int(line.split()[3]) <= RUN_DEPTH)
    except (ValueError, IndexError) as error:
        raise ValueError(f"{path} is no run file ({error})") from error


def _unpacked(path: Path) -> str:
    """The text of a gzip file. ValueError, with its name, if it is cut off or damaged."""
    try:
        return gzip.decompress(path.read_bytes()).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: {error}") from error


def _packed(text: str) -> bytes:
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)
