"""Finished runs as tables read them, wherever they lie: in a run folder, or among the kept records.

``kept.py`` holds the second kind; this module says what both have, and reads the first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from rlcredit.evaluation.on_disk import StoredScores, evaluation_path, read_scores
from rlcredit.identity import digest, without_numerics
from rlcredit.run.folder import FAILURE_FILE, RunSummary, Status
from rlcredit.run.seal import verify
from rlcredit.tables.declare import Phase

REMEDY = "restore it, or move the folder away and run again"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A look at the test split: every query's score by cell name (``bm25/ndcg@10_sampled``)."""

    prompt_ids: tuple[str, ...]
    values: Mapping[str, NDArray[np.float64]]
    """[Q]; NaN where a measure is not defined for a query."""
    families: NDArray[np.int64] | None = None
    """[Q], the number of each query's family; None where the run did not record it."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a finished run measured."""

    place: str
    """The run's folder, or its row among the kept records."""
    config: str
    """Where the run's settings stand."""
    summary: RunSummary
    scores: Mapping[Phase, Scores]
    logged: tuple[Mapping[str, int | float], ...]
    """Lines of metrics.jsonl."""
    overrides: tuple[str, ...] | None = None
    """The words that the run was asked for with; None where they cannot be read."""
    problems: tuple[str, ...] = ()
    """What could not be read."""
    kept: bool = False
    """Whether this is a kept record, without responses and rankings."""


@runtime_checkable
class FinishedRun(Protocol):
    """A finished run, before its scores are read."""

    @property
    def place(self) -> str:
        """How messages call it."""
        ...

    @property
    def kept(self) -> bool:
        """Whether it is a kept record, which wins over other runs of its digest."""
        ...

    @property
    def summary(self) -> RunSummary:
        """What it was and what came out."""
        ...

    def overrides(self) -> tuple[str, ...]:
        """The words that it was asked for with. ValueError if they cannot be read."""
        ...

    def evaluation(self) -> Mapping[str, Any]:
        """The settings that it says it was scored with. ValueError if it does not say."""
        ...

    def evaluation_digest(self) -> str:
        """Digest of the settings it was scored with; empty where its scores do not say."""
        ...

    def read(self) -> Record:
        """Its scores and what it logged. What cannot be read is named, not raised."""
        ...


def kin(run: FinishedRun) -> str:
    """Hash of a run's identity without ``numerics``; empty where it did not record one."""
    identity = run.summary.identity
    return digest(without_numerics(identity)) if identity else ""


@dataclass(frozen=True)
class RunFolder:
    """A finished run in a folder of its own."""

    folder: Path
    summary: RunSummary
    kept: bool = False

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.folder)

    def overrides(self) -> tuple[str, ...]:
        """The words that it was asked for with.

        Raises:
            ValueError: If the folder does not say.
        """
        words = self._hydra("overrides")
        if not isinstance(words, list):
            raise ValueError(f"{self._path('overrides')} holds no list of overrides")
        return tuple(map(str, words))

    def evaluation(self) -> Mapping[str, Any]:
        """The settings that its config says it was scored with.

        Raises:
            ValueError: If the folder does not say.
        """
        config = self._hydra("config")
        evaluation = config.get("evaluation") if isinstance(config, dict) else None
        if not isinstance(evaluation, dict):
            raise ValueError(f"{self._path('config')} has no evaluation settings")
        return evaluation

    def evaluation_digest(self) -> str:
        """Digest of the settings that its scores were made with; empty if they do not say."""
        try:
            made = read_scores(evaluation_path(self.folder, "test", "after")).digest
        except (OSError, ValueError):
            return ""  # reading its scores will say what is wrong with them
        return made.partition("-")[2]

    def read(self) -> Record:
        """Its scores and what it logged, with what could not be read in ``problems``."""
        problems: list[str] = []
        scores: dict[Phase, Scores] = {}
        logged: tuple[Mapping[str, int | float], ...] = ()
        try:
            verify(self.folder, self.summary.record, finished=True)
            scores = _read_scores(self.folder)
        except (ValueError, OSError) as error:
            problems.append(f"{self.folder}: scores cannot be read ({error}): {REMEDY}")
        try:
            logged = _read_lines(self.folder, problems)
        except (ValueError, OSError) as error:
            why = f"metrics.jsonl cannot be read ({error})"
            problems.append(f"{self.folder}: {why}: {REMEDY}")
        try:
            words = self.overrides()
        except ValueError:
            words = None
        return Record(
            place=self.place,
            config=str(self._path("config")),
            summary=self.summary,
            scores=scores,
            logged=logged,
            overrides=words,
            problems=tuple(problems),
        )

    def _path(self, name: str) -> Path:
        return self.folder / ".hydra" / f"{name}.yaml"

    def _hydra(self, name: str) -> Any:
        path = self._path(name)
        if not path.exists():
            raise ValueError(f"{self.folder} has no .hydra/{name}.yaml")
        try:
            return yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path} cannot be read ({type(error).__name__})") from error


def run_folders(root: Path) -> tuple[list[RunFolder], list[str]]:
    """Finished runs at or below a folder, and the summaries that cannot be read."""
    found: list[RunFolder] = []
    problems: list[str] = []
    for path in sorted(root.rglob("summary.json")):
        try:
            summary = RunSummary.read(path.parent)
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        if summary is not None and summary.status is Status.finished:
            found.append(RunFolder(path.parent, summary))
    return found, problems


def revision(record: Record) -> str:
    """Revision of the code that made a run, with ``+changes`` where files differed from it.

    Raises:
        ValueError: If none was recorded: a figure without provenance is not shown.
    """
    known = record.summary.code_revision
    if not known:
        raise ValueError(f"{record.place}: no code revision was recorded; {REMEDY}")
    return known


def why_unfinished(folder: Path) -> str:
    """What became of a run that is not among the finished ones."""
    failure = folder / FAILURE_FILE
    if failure.exists():
        return "failed: " + (failure.read_text(encoding="utf-8").strip().splitlines() or ["?"])[-1]
    if folder.exists():
        return f"unfinished: {folder} has no readable summary.json"
    return "not run"


def agree(one: RunSummary, other: RunSummary) -> bool:
    """Whether two runs measured the same, wherever both measured."""
    ours, theirs = one.measures, other.measures
    return all(ours[name] == theirs[name] for name in ours if name in theirs)


def conflict(runs: Sequence[FinishedRun]) -> str | None:
    """A sentence where runs of one digest measured different things; None where they agree."""
    first = runs[0]
    for other in runs[1:]:
        if other.summary.digest != first.summary.digest:
            return (
                f"{first.place} and {other.place} were asked for alike, of different data, which "
                "are not here to say which is meant"
            )
        if not agree(first.summary, other.summary):
            return (
                f"{first.place} and {other.place} have the same digest and different results; "
                "neither is shown. Remove the wrong one"
            )
    return None


def _read_scores(folder: Path) -> dict[Phase, Scores]:
    scores: dict[Phase, Scores] = {}
    for phase in Phase:
        path = evaluation_path(folder, "test", phase)
        if not path.exists():
            raise ValueError(f"{path.name} is missing")
        try:
            scores[phase] = _evaluated(read_scores(path))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return scores


def _evaluated(stored: StoredScores) -> Scores:
    values = {cell.name: np.array(row, dtype=np.float64) for cell, row in stored.by_cell().items()}
    number = len(stored.prompt_ids)
    short = [name for name, row in values.items() if len(row) != number]
    if short:
        raise ValueError(f"{short[0]} has not one score for each of {number} queries")
    return Scores(prompt_ids=stored.prompt_ids, values=values, families=stored.family_numbers())


def _read_lines(folder: Path, problems: list[str]) -> tuple[Mapping[str, int | float], ...]:
    path = folder / "metrics.jsonl"
    if not path.exists():
        problems.append(f"{folder}: no metrics.jsonl, so nothing logged is shown")
        return ()
    lines: list[Mapping[str, int | float]] = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.splitlines(), 1):
        try:
            logged = msgspec.json.decode(line, type=dict[str, Any])
        except ValueError:
            problems.append(f"{folder}: line {number} of metrics.jsonl is broken and left out")
        else:
            lines.append({k: v for k, v in logged.items() if isinstance(v, int | float)})
    return tuple(lines)
