"""A report of one run or many: one HTML file that opens from disk and asks nobody for anything.

Every text in it is escaped: a product title with a script tag shows as the text that it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rlcredit.evaluation.lines import seconds, with_interval
from rlcredit.evaluation.names import POLICY, data_name, measure_name, source_of
from rlcredit.files import replace_file
from rlcredit.report.charts import charts, uneven
from rlcredit.report.embedded import Shown
from rlcredit.report.runs import Gap, Method, ReportedRun, methods_of
from rlcredit.report.verdict import verdict
from rlcredit.run.folder import Change

SCRIPTS = ("marks.js", "explorer.js", "compare.js")
"""In the order in which the page runs them."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A method's line in the table: means over seeds, and each seed's difference."""

    method: Method
    verdict: str
    measure: str
    before: float
    after: float
    best: bool
    """Whether no other method ends higher on the same measure and data."""
    differences: tuple[str, ...]
    evaluations: float
    wall_time: str


@dataclass(frozen=True, kw_only=True)
class MeasureRow:
    """A measure of one run; what the policy did not write has one value and no difference."""

    name: str
    before: str
    after: str = ""
    difference: str = ""


def render(runs: Sequence[ReportedRun], gaps: Sequence[Gap], *, shown: Shown | None = None) -> str:
    """The page.

    Args:
        runs: At least one.
        gaps: Shown, so that nobody takes the rest for the whole.
        shown: What the credit explorer shows; None leaves it out.
    """
    methods = methods_of(runs)
    environment = page_environment()
    environment.filters["measures"] = measure_rows
    html = template("report.html")
    return environment.from_string(html).render(
        css=Markup(
            template("base.css") + template("report.css")
        ),  # our own files, like the scripts
        scripts=[Markup(template(name)) for name in SCRIPTS],
        rows=_rows(methods),
        title=_title(methods),
        sources=sorted({f"{data_name(run.data)}, {run.summary.data} data" for run in runs}),
        caveats=sorted({run.caveat for run in runs if run.caveat}),
        gaps=gaps,
        charts=[Markup(each) for each in charts(methods)],
        uneven=uneven(methods),
        shown=shown,
        explorer=None if shown is None else shown.data(),
    )


def page_environment() -> Environment:
    """Templates in which every text is escaped, and a missing name is an error."""
    return Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def template(name: str) -> str:
    """A file of this package's templates."""
    return (files("rlcredit.report") / "templates" / name).read_text(encoding="utf-8")


def write_page(path: Path, html: str) -> Path:
    """Write the page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, html)
    return path


def measure_rows(run: ReportedRun) -> Iterator[MeasureRow]:
    """Every measure of a run, then figures of whole evaluations, then the check of credit."""
    for name, change in run.summary.measures.items():
        yield _measure_row(name, change)
    for name, after in run.summary.figures.get("after", {}).items():
        before = run.summary.figures["before"][name]
        yield MeasureRow(name=name, before=f"{before:.4g}", after=f"{after:.4g}")
    for phase, rho in run.summary.credit.items():
        label = f"credit and truth, rank correlation, {phase}"
        yield MeasureRow(name=label, before=with_interval(rho, sign=True))


def _measure_row(name: str, change: Change) -> MeasureRow:
    before, label = with_interval(change.before), measure_name(name)
    if source_of(name) not in POLICY:
        return MeasureRow(name=label, before=before)
    after, difference = with_interval(change.after), with_interval(change.difference, sign=True)
    return MeasureRow(name=label, before=before, after=after, difference=difference)


def _title(methods: Sequence[Method]) -> str:
    labels = list(dict.fromkeys(method.label for method in methods))
    data = list(dict.fromkeys(data_name(run.data) for m in methods for run in m.runs))
    several = f"{len(labels)} methods" if len(labels) > 3 else ", ".join(labels)
    return f"{several} on {' and '.join(data)}"


def _rows(methods: Sequence[Method]) -> list[Row]:
    ends: dict[tuple[str, str], list[float]] = {}
    for method in methods:
        ends.setdefault(_compared(method), []).append(_after(method))
    return [_row(method, ends[_compared(method)]) for method in methods]


def _compared(method: Method) -> tuple[str, str]:
    """Methods with the same data and headline measure are compared."""
    first = method.runs[0]
    return first.summary.data_digest, first.summary.headline


def _after(method: Method) -> float:
    return float(np.mean([run.change.after.mean for run in method.runs]))


def _row(method: Method, compared: Sequence[float]) -> Row:
    after = _after(method)
    return Row(
        method=method,
        verdict=verdict(method),
        measure=measure_name(method.runs[0].summary.headline),
        before=float(np.mean([run.change.before.mean for run in method.runs])),
        after=after,
        best=len(compared) > 1 and after == max(compared),
        differences=tuple(with_interval(run.change.difference, sign=True) for run in method.runs),
        evaluations=float(np.mean([run.evaluations for run in method.runs])),
        wall_time=seconds(float(np.mean([run.summary.wall_time_s for run in method.runs]))),
    )
