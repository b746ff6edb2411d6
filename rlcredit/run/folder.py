"""What a run leaves: ``summary.json``, the count of test-set touches, and its provenance."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum, auto
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from rlcredit.distributed.machine import machine_type
from rlcredit.evaluation.figures import Comparison
from rlcredit.evaluation.stats import Interval
from rlcredit.files import append, replace_file, writing
from rlcredit.tracking.strict_json import checked_text, convert, read_checked

SUMMARY_FILE = "summary.json"
FAILURE_FILE = "failure.txt"
TOUCHES_FILE = "test_touches.jsonl"
VERSIONED = ("torch", "transformers", "tokenizers", "numpy", "scipy", "bm25s", "scikit-learn")
"""Packages whose versions can change a number."""


class Status(StrEnum):
    """How a run ended."""

    finished = auto()
    failed = auto()
    interrupted = auto()


@dataclass(frozen=True, kw_only=True)
class Change:
    """A measure before and after training, and the paired difference."""

    before: Interval
    after: Interval
    difference: Interval

    @classmethod
    def of(cls, comparison: Comparison) -> "Change":
        """A comparison without its cell."""
        return cls(
            before=comparison.before, after=comparison.after, difference=comparison.difference
        )


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """``summary.json``: what a run was, and what came out."""

    name: str
    status: Status
    """``failed`` where all is written and the export is not the policy; ``fault`` says why."""
    digest: str
    """Digest of all settings that can change a number; what is finished is not run again."""
    data: str
    """``generated``, ``path`` or ``hub``."""
    data_digest: str
    steps: int
    wall_time_s: float
    headline: str
    """Name of the measure that tables show: the training retriever's, sampled."""
    measures: Mapping[str, Change]
    """Scores of the test split by name: ``bm25/ndcg@10_sampled``."""
    validation: Mapping[str, Interval] = field(default_factory=dict)
    """Scores of the validation split after the last step, by name; empty where it was not scored
    (``evaluation.every=0``), and in older summaries."""
    credit: Mapping[str, Interval] = field(default_factory=dict)
    """Phase -> rank correlation of segment credit with truth; empty where there is none."""
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Phase -> what is no mean over prompts, by name (``width``, ``mode``)."""
    test_touches: int
    """How often anything was computed on the test split."""
    code_revision: str | None
    """Git commit of the package, ``+changes`` where files differ; None outside a repository."""
    versions: Mapping[str, str]
    """Version of each package by name; also ``machine``, the type of the machine, and
    ``threads``."""
    identity: Mapping[str, Any] = field(default_factory=dict)
    """What the digest is the hash of; empty in summaries that are older than it."""
    fault: str | None = None
    """What is wrong with the exported policy."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Seal of the run's other files (``run/seal.py``); empty in older summaries."""
    exported: Mapping[str, Any] = field(default_factory=dict)
    """Seal of the exported policy's tokenizer and configs; empty in older summaries."""

    @property
    def validated(self) -> float | None:
        """The mean of the headline measure on the validation split, by which settings are chosen.

        None where the split was not scored; the test split chooses nothing.
        """
        found = self.validation.get(self.headline)
        return None if found is None else found.mean

    def write(self, run: Path) -> Path:
        """Write ``summary.json``, whole or not at all; an earlier failure is forgotten."""
        path = run / SUMMARY_FILE
        replace_file(path, checked_text(asdict(self), indent=1) + "\n")
        (run / FAILURE_FILE).unlink(missing_ok=True)
        return path

    @classmethod
    def read(cls, run: Path) -> "RunSummary | None":
        """The summary of a run folder; None if there is none.

        Raises:
            ValueError: If the file is not a summary.
        """
        path = run / SUMMARY_FILE
        if not path.exists():
            return None
        try:
            return convert(read_checked(path), cls)
        except ValueError as error:
            raise ValueError(
                f"{path} is no summary of this version ({error}); remove the file, or start the "
                "run anew with resume=never"
            ) from error


def touch_test_split(run: Path, *, phase: str) -> int:
    """Note that the test split is about to be looked at; how often that happened in this run.

    The note is on disk before a score is, so that no look goes uncounted.
    """
    path = run / TOUCHES_FILE
    run.mkdir(parents=True, exist_ok=True)
    append(path, json.dumps({"phase": phase}) + "\n")
    with writing(path), path.open("rb") as file:
        os.fsync(file.fileno())
    return count_touches(run)


def count_touches(run: Path) -> int:
    """How often the test split was looked at in this run."""
    path = run / TOUCHES_FILE
    return len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0


def code_revision(folder: Path) -> str | None:
    """The git commit of the repository around ``folder``; None where there is none.

    ``+changes`` where files differ from it. What runs write does not count: the records of a table
    are kept in the repository while its jobs go on.
    """
    head = _git(folder, ("rev-parse", "HEAD"))
    if head is None:
        return None
    changed = _git(folder, ("status", "--porcelain", "--", ":/", ":(top,exclude)outputs"))
    return head + ("+changes" if changed else "")


def _git(folder: Path, arguments: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no repository: the summary says null
    return done.stdout.strip()


def computed_with() -> dict[str, str]:
    """What changes a number besides the config: packages, the type of machine, its threads."""
    packages = {"python": platform.python_version()} | {name: version(name) for name in VERSIONED}
    return packages | {"machine": machine_type(), "threads": str(torch.get_num_threads())}
