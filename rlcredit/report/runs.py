"""Finished runs as a report reads them: what they were, and what they logged."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlcredit.evaluation.names import data_name, method_name
from rlcredit.run.evidence import caveat
from rlcredit.run.folder import SUMMARY_FILE, Change, RunSummary, Status
from rlcredit.run.seal import verify
from rlcredit.run.sweep_table import read_job
from rlcredit.tracking.jsonl import METRICS_FILE
from rlcredit.tracking.lines import read_lines

PRIVATE = (
    *("seed=", "tracker=", "tracker.", "trainer.threads=", "hydra.", "cache=", "resume="),
    *("evaluation.", "estimator=", "dataset=", "dataset.path=", "trainer.keep_checkpoints="),
    "trainer.checkpoint_every=",
)
"""Overrides that do not make another method of a run, or are said in other words."""


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A finished run, as the report reads it."""

    folder: Path
    summary: RunSummary
    overrides: tuple[str, ...]
    seed: int
    policy: str
    """What was trained, in words."""
    metrics: tuple[Mapping[str, Any], ...]

    def column(self, name: str) -> dict[int, float]:
        """Step -> value, of the steps that have it."""
        return {int(line["step"]): float(line[name]) for line in self.metrics if name in line}

    @property
    def evaluations(self) -> float:
        """Rewards that training asked for, over all steps."""
        return sum(self.column("reward/evaluations").values())

    @property
    def data(self) -> str:
        """Name of the data set in ``conf/dataset``."""
        return self.summary.name.partition("/")[0]

    @property
    def estimator(self) -> str:
        """Name of the estimator in ``conf/estimator``."""
        return self.summary.name.partition("/")[2]

    @property
    def label(self) -> str:
        """Method and seed, as people say them."""
        return f"{method_name(self.estimator)}, seed {self.seed}"

    @property
    def change(self) -> Change:
        """The headline measure before and after training."""
        return self.summary.measures[self.summary.headline]

    @property
    def caveat(self) -> str:
        """Why its numbers are no evidence; empty where they may be."""
        return caveat(self.overrides)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Runs that differ in nothing but the seed."""

    name: str
    """Estimator and settings, as on the command line."""
    label: str
    """What people call it."""
    runs: tuple[ReportedRun, ...]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A folder that has no finished run, and why."""

    folder: Path
    why: str


def find_runs(folders: Sequence[Path]) -> tuple[list[ReportedRun], list[Gap]]:
    """Every run at or below the folders; what cannot be read is a gap, not a crash.

    The records that tables keep are left out: they have no responses, and tables show them.

    Raises:
        ValueError: If there is no run at all.
    """
    found = sorted({path for folder in folders for path in _run_folders(folder)})
    runs: list[ReportedRun] = []
    gaps: list[Gap] = []
    for folder in found:
        try:
            job = read_job(folder)
            if job.summary is None or job.status is not Status.finished:
                gaps.append(Gap(folder=folder, why=f"{job.status}: {job.failure or 'no summary'}"))
            else:
                verify(folder, job.summary.record, finished=True)
                runs.append(read_run(folder))
        except (ValueError, OSError) as error:
            gaps.append(Gap(folder=folder, why=str(error)))
    if not runs:
        raise ValueError(
            f"no finished run lies at or below {', '.join(map(str, folders))} "
            f"({len(gaps)} that cannot be shown{_records(folders)}); give run folders, or a folder "
            f"that holds some, such as the one that make train names{_first_reasons(gaps)}"
        )
    return runs, gaps


def _first_reasons(gaps: Sequence[Gap]) -> str:
    """Why the first runs cannot be shown, a line each."""
    return "".join(f"\n  {gap.folder}: {gap.why}" for gap in gaps[:3])


def _records(folders: Sequence[Path]) -> str:
    if not any(path for folder in folders for path in folder.rglob("index-*.parquet")):
        return ""
    return "; the records of tables, which rlcredit tables shows, are no whole runs"


def best_run(runs: Sequence[ReportedRun]) -> ReportedRun:
    """The run that ends highest; the first of equals."""
    return max(runs, key=lambda run: run.change.after.mean)


def other_method(runs: Sequence[ReportedRun], run: ReportedRun) -> Path | None:
    """Folder of the best run by another estimator on the same data; None where there is none."""
    others = [
        each
        for each in runs
        if each.summary.data_digest == run.summary.data_digest and each.estimator != run.estimator
    ]
    return best_run(others).folder if others else None


def methods_of(runs: Sequence[ReportedRun]) -> list[Method]:
    """Runs by method; where one name covers different settings, what differs stands behind it."""
    of_name: dict[str, list[set[str]]] = {}
    for run in runs:
        of_name.setdefault(run.summary.name, []).append(_settings(run))
    shared = {name: set.intersection(*settings) for name, settings in of_name.items()}
    methods: dict[tuple[str, str], list[ReportedRun]] = {}
    for run in runs:
        own = sorted(_settings(run) - shared[run.summary.name])
        methods.setdefault((run.data, " ".join([run.estimator, *own])), []).append(run)
    several = len({data for data, _ in methods}) > 1
    return [
        Method(
            name=name,
            label=method_name(name) + (f", {data_name(data)}" if several else ""),
            runs=tuple(own),
        )
        for (data, name), own in methods.items()
    ]


def _run_folders(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder of a run or of a sweep")
    if _is_run(folder):
        yield folder
        return
    for name in (SUMMARY_FILE, METRICS_FILE):
        yield from (path.parent for path in folder.rglob(name) if _is_run(path.parent))


def _is_run(folder: Path) -> bool:
    """Whether a run began here."""
    return (folder / SUMMARY_FILE).exists() or (folder / METRICS_FILE).exists()


def read_run(folder: Path) -> ReportedRun:
    """A finished run's folder.

    Raises:
        ValueError: If it holds no summary, or a file of another form.
    """
    summary = RunSummary.read(folder)
    if summary is None:
        raise ValueError(f"{folder} holds no summary.json; give the folder of a finished run")
    config, overrides = (
        yaml.safe_load((folder / ".hydra" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("config", "overrides")
    )
    return ReportedRun(
        folder=folder,
        summary=summary,
        overrides=tuple(map(str, overrides)),
        seed=int(config["seed"]),
        policy=_policy(config.get("policy") or {}),
        metrics=tuple(read_lines(folder / METRICS_FILE)),
    )


def _policy(settings: Mapping[str, Any]) -> str:
    """``SmolLM2-135M-Instruct``, or what a policy made from scratch looks like."""
    if name := settings.get("name"):
        return str(name).rpartition("/")[2]
    if "num_layers" in settings:
        layers, width = settings["num_layers"], settings["hidden_size"]
        return f"a policy made from scratch ({layers} layers of width {width})"
    return "a policy"


def _settings(run: ReportedRun) -> set[str]:
    return {each for each in run.overrides if not each.startswith(PRIVATE)}
