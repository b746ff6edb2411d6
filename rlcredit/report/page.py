"""A report of one run or many: one HTML file that opens from disk and asks nobody for anything.

Every text in it is escaped: a product title with a script tag shows as the text that it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rlcredit.evaluation.lines import seconds, with_interval
from rlcredit.files import replace_file
from rlcredit.report.curves import Curve, Point, aligned, curves_svg, scatter_svg
from rlcredit.report.views import Hit, PromptView
from rlcredit.run.folder import SUMMARY_FILE, RunSummary, Status
from rlcredit.run.seal import verify
from rlcredit.run.sweep_table import read_job
from rlcredit.tracking.jsonl import METRICS_FILE
from rlcredit.tracking.lines import read_lines

TITLE_LENGTH = 160
"""Characters of a document that are shown."""
CURVES: tuple[tuple[str, str], ...] = (
    ("reward/mean", "reward of the training batch"),
    ("train/entropy_nats", "entropy, nats a token"),
    ("response/length_tokens", "tokens a response"),
    ("segments/per_response", "segments a response"),
    ("reward/group_std", "spread of rewards within a group"),
)
PRIVATE = (
    *("seed=", "tracker=", "tracker.", "trainer.threads=", "hydra.", "cache=", "resume="),
    *("evaluation.", "estimator=", "dataset=", "dataset.path="),
)
"""Overrides that do not make another method of a run."""


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A finished run, as the report reads it."""

    folder: Path
    summary: RunSummary
    overrides: tuple[str, ...]
    seed: int
    metrics: tuple[Mapping[str, Any], ...]

    def column(self, name: str) -> dict[int, float]:
        """Step -> value, of the steps that have it."""
        return {int(line["step"]): float(line[name]) for line in self.metrics if name in line}

    @property
    def evaluations(self) -> float:
        """Rewards that training asked for, over all steps."""
        return sum(self.column("reward/evaluations").values())


@dataclass(frozen=True, kw_only=True)
class Method:
    """Runs that differ in nothing but the seed."""

    label: str
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
                runs.append(_read_run(folder, job.summary))
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


def methods_of(runs: Sequence[ReportedRun]) -> list[Method]:
    """Runs by method; where one name covers different settings, what differs stands behind it."""
    of_name: dict[str, list[set[str]]] = {}
    for run in runs:
        of_name.setdefault(run.summary.name, []).append(_settings(run))
    shared = {name: set.intersection(*settings) for name, settings in of_name.items()}
    methods: dict[str, list[ReportedRun]] = {}
    for run in runs:
        own = sorted(_settings(run) - shared[run.summary.name])
        methods.setdefault(" ".join([run.summary.name, *own]), []).append(run)
    return [Method(label=label, runs=tuple(own)) for label, own in methods.items()]


def render(
    runs: Sequence[ReportedRun],
    gaps: Sequence[Gap],
    *,
    explored: Sequence[PromptView] = (),
    part: str = "segment",
    titles: Mapping[str, str] | None = None,
    explored_run: Path | None = None,
) -> str:
    """The page.

    Args:
        runs: At least one.
        gaps: Shown, so that nobody takes the rest for the whole.
        explored: Prompts of the credit explorer.
        part: What the parts of its responses are called.
        titles: Document id -> text, of the documents that the explorer names.
        explored_run: Whose responses the explorer shows.
    """
    methods = methods_of(runs)
    shown = {hit.document_id for view in explored for hit in _hits(view)}
    data = {
        "prompts": [asdict(view) for view in explored],
        "part": part,
        "methods": list(explored[0].responses[0].methods) if explored else [],
        "titles": {i: (titles or {}).get(i, "")[:TITLE_LENGTH] for i in sorted(shown)},
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["interval"] = with_interval
    html, css, js = (_template(f"report.{kind}") for kind in ("html", "css", "js"))
    return environment.from_string(html).render(
        css=Markup(css),  # our own file, which holds no one else's text; the script likewise
        js=Markup(js),
        methods=[(method, _row(method)) for method in methods],
        sources=sorted({run.summary.data for run in runs}),
        gaps=gaps,
        charts=[Markup(svg) for svg in _charts(methods)],
        explorer=data if explored else None,
        explored_run=explored_run,
        part=part,
    )


def write_page(path: Path, html: str) -> Path:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, html)
    return path


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A method's line in the table: means over seeds, and each seed's difference."""

    headline: str
    before: float
    after: float
    differences: tuple[str, ...]
    evaluations: float
    wall_time: str


def _row(method: Method) -> _Row:
    first = method.runs[0].summary
    changes = [run.summary.measures[run.summary.headline] for run in method.runs]
    return _Row(
        headline=first.headline,
        before=float(np.mean([change.before.mean for change in changes])),
        after=float(np.mean([change.after.mean for change in changes])),
        differences=tuple(with_interval(change.difference, sign=True) for change in changes),
        evaluations=float(np.mean([run.evaluations for run in method.runs])),
        wall_time=seconds(float(np.mean([run.summary.wall_time_s for run in method.runs]))),
    )


def _template(name: str) -> str:
    return (files("rlcredit.report") / "templates" / name).read_text(encoding="utf-8")


def _charts(methods: Sequence[Method]) -> Iterator[str]:
    labels = [method.label for method in methods]
    headlines = dict.fromkeys(run.summary.headline for m in methods for run in m.runs)
    validation = [(f"eval/validation/{name}", f"{name}, validation") for name in headlines]
    for metric, title in (*validation, *CURVES):
        curves = [curve for method in methods if (curve := _curve(method, metric)) is not None]
        if curves:
            yield curves_svg(curves, title=title, labels=labels)
    for headline in headlines:
        points = [
            (method.label, run)
            for method in methods
            for run in method.runs
            if run.summary.headline == headline
        ]
        for cost, unit in _COSTS:
            yield scatter_svg(
                [
                    Point(
                        label=label,
                        x=cost(run),
                        y=run.summary.measures[headline].after.mean,
                    )
                    for label, run in points
                ],
                title=f"{headline}, test, against {unit}",
                x=unit,
                labels=labels,
            )


_COSTS: tuple[tuple[Callable[[ReportedRun], float], str], ...] = (
    (lambda run: run.evaluations, "reward evaluations"),
    (lambda run: run.summary.wall_time_s, "seconds"),
)


def _curve(method: Method, metric: str) -> Curve | None:
    rows = [column for run in method.runs if len(column := run.column(metric)) > 1]
    if not rows:
        return None
    steps, values = aligned(rows)
    return Curve(label=method.label, steps=steps, values=values) if len(steps) > 1 else None


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


def _read_run(folder: Path, summary: RunSummary) -> ReportedRun:
    config, overrides = (
        yaml.safe_load((folder / ".hydra" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("config", "overrides")
    )
    return ReportedRun(
        folder=folder,
        summary=summary,
        overrides=tuple(map(str, overrides)),
        seed=int(config["seed"]),
        metrics=tuple(read_lines(folder / METRICS_FILE)),
    )


def _settings(run: ReportedRun) -> set[str]:
    return {each for each in run.overrides if not each.startswith(PRIVATE)}


def _hits(view: PromptView) -> Iterator[Hit]:
    for response in view.responses:
        yield from response.found
        for segment in response.segments:
            yield from segment.found_without
