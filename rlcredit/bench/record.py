"""Writes what the bench found: JSON with every figure, sheets as Markdown and LaTeX, pictures."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rlcredit.bench.cells import own_entries
from rlcredit.bench.climb import BANDITS
from rlcredit.bench.compare import BUDGET, Comparison, median
from rlcredit.bench.figures import draw_figures
from rlcredit.bench.kept import RECORD_FILE, BenchRecord
from rlcredit.bench.run import Found
from rlcredit.bench.summary import VALUES, notes, refusals, sheets
from rlcredit.evaluation.stats import Interval
from rlcredit.report.sheets import sheet_latex, sheet_markdown

DIGITS = 4
"""Significant; more would be noise, and the last bits of a sum."""
TITLE = "The credit bench"


def write(found: Found, folder: Path) -> list[Path]:
    """Everything; the same bytes for the same figures.

    Returns:
        The files, the page to read first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = folder / RECORD_FILE
    numbers.write_text(json_text(found), encoding="utf-8")
    pictures = draw_figures(BenchRecord.read(folder), folder)
    page, tables = (folder / f"credit_bench.{kind}" for kind in ("md", "tex"))
    page.write_text(markdown(found, pictures), encoding="utf-8")
    tables.write_text(latex(found), encoding="utf-8")
    return [page, tables, numbers, *(folder / name for name in pictures)]


def markdown(found: Found, pictures: Sequence[str]) -> str:
    """The page."""
    parts = [f"# {TITLE}", "\n".join(f"- {note}" for note in notes(found))]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += [sheet_markdown(sheet) for sheet in sheets(found)]
    return "\n\n".join(parts) + "\n"


def latex(found: Found) -> str:
    """Every sheet as a tabular."""
    parts = [f"% {TITLE}. Needs \\usepackage{{booktabs}}."]
    parts += [sheet_latex(sheet) for sheet in sheets(found)]
    return "\n".join([*parts, *(f"% {note}" for note in notes(found))]) + "\n"


def json_text(found: Found) -> str:
    """Every figure, one line per row; tables say their columns."""
    objectives = next((list(e.here.cosines) for e in found.entries if e.here.cosines), [])
    whole = {
        "settings": asdict(found.settings),
        "worlds": {world.name: world.structure for world in found.worlds},
        "own_loss": dict(found.methods.own),
        "same_as": {name: found.methods.same_as(name) for name in found.methods.estimators},
        "gradients": _table(
            [
                *("world", "estimator", "loss", *_COMPARED, "climbs", "tied"),
                *(f"moved_{name}" for name in ("length", "cosine", "bias")),
                *(f"cosine with {name}" for name in objectives),
            ],
            _gradients(found, objectives),
        ),
        "credit": _table(["world", "estimator", *VALUES, "largest advantage"], _credit(found)),
        "bandits": _table(["estimator", "loss", "bandit", "right", "modes"], _bandits(found)),
        "price": _table(["estimator", "samples", "rewards"], _price(found)),
        "refused": [{"why": why} | parts for why, parts in refusals(found).items()],
    }
    lines = []
    for key, value in whole.items():
        if isinstance(value, dict) and "rows" in value:
            rows = ",\n".join(_compact(row) for row in value["rows"])
            columns = _compact(value["columns"])
            lines.append(f'"{key}": {{"columns": {columns},\n"rows": [\n{rows}]}}')
        else:
            lines.append(f'"{key}": {_compact(value)}')
    return "{" + ",\n".join(lines) + "}\n"


_BOUGHT = ("variance", "error", "error at the best rate")
_COMPARED = (
    *("length", "cosine", "bias", "power", "variance", "samples", "evaluations"),
    *(f"{name}, {BUDGET} {cost}" for cost in ("samples", "rewards") for name in _BOUGHT),
)


def _table(columns: list[str], rows: Iterator[list[object]]) -> dict[str, object]:
    return {"columns": columns, "rows": list(rows)}


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _gradients(found: Found, objectives: Sequence[str]) -> Iterator[list[object]]:
    for entry in found.entries:
        here, moved = entry.here, entry.moved
        yield [
            *(entry.world, entry.estimator, entry.loss, *_compared(here)),
            *(here.climbs, list(here.tied)),
            *(_bounds(figure) for figure in (moved.scale, moved.cosine, moved.bias)),
            *(_short(here.cosines.get(name)) for name in objectives),
        ]


def _compared(here: Comparison) -> Iterator[object]:
    for figure in (here.scale, here.cosine, here.bias, here.power, here.variance):
        yield _bounds(figure)
    yield _rounded(here.samples)
    yield _rounded(here.evaluations)
    for at_budget in (here.by_samples, here.by_rewards):
        for figure in (at_budget.variance, at_budget.error, at_budget.at_best_rate):
            yield _bounds(figure)


def _credit(found: Found) -> Iterator[list[object]]:
    for each in found.ordered:
        values = [_bounds(getattr(each.agreement, name)) for name in VALUES]
        yield [each.world, each.estimator, *values, _rounded(each.largest)]


def _bandits(found: Found) -> Iterator[list[object]]:
    for each in found.bandits:
        for name in BANDITS:
            end = each.bandits[name]
            yield [each.estimator, each.loss, name, _bounds(end.right), _bounds(end.modes)]


def _price(found: Found) -> Iterator[list[object]]:
    """Medians over worlds of the error at the best rate, with each estimator's own loss."""
    for name, row in own_entries(found).items():
        here = [entry.here for entry in row.values()]
        samples = median([each.by_samples.at_best_rate for each in here])
        rewards = median([each.by_rewards.at_best_rate for each in here])
        yield [name, *([_rounded(v) for v in (f.mean, f.low, f.high)] for f in (samples, rewards))]


def _bounds(figure: Interval | None) -> list[float | None] | None:
    """Figure, low, high."""
    if figure is None:
        return None
    return [_rounded(value) for value in (figure.mean, figure.low, figure.high)]


def _rounded(value: int | float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
