"""Pictures of what the bench found: PNG and SVG, the same bytes each time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from rlcredit.bench.climb import BANDITS
from rlcredit.bench.kept import BenchRecord, Bounds
from rlcredit.bench.summary import VALUES
from rlcredit.evaluation.names import method_name
from rlcredit.report.colours import colour_of, looks
from rlcredit.report.curves import (
    Point,
    axes_of,
    cost_axis,
    draw_points,
    mark,
    name_points,
    prepare,
    save_figure,
)

SHADES = "Blues"
"""The darker, the higher."""
COSINES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0)
"""Where a cosine's shade changes: .9 is another direction than 1."""
CORRELATIONS = (-1.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.0)
DARK = 0.6
"""Share of the shades above which figures are written in white."""


def draw_figures(record: BenchRecord, folder: Path) -> list[str]:
    """Write every figure that there are data for; the names of their PNG files."""
    names: list[str] = []
    for name, figure in _drawn(record):
        save_figure(figure, folder, name, name=f"credit bench, {name}")
        names.append(f"{name}.png")
    return names


def _drawn(record: BenchRecord) -> Iterator[tuple[str, Figure]]:
    cosines = record.cosines()
    if cosines:
        title = "Cosine of the expected gradient with the true one (own loss)"
        worlds = list(record.worlds)
        rows = {name: [row.get(world, np.nan) for world in worlds] for name, row in cosines.items()}
        yield "directions", _heat(title, rows, worlds, COSINES)
        yield "price", _price(record)
    agreements = record.agreements(VALUES)
    if agreements:
        title = "Rank correlation of the advantages with the truth, mean over worlds"
        yield "credit", _heat(title, agreements, VALUES, CORRELATIONS)
    if record.bandits.rows:
        yield "bandits", _bandits(record)


def _heat(
    title: str,
    rows: Mapping[str, Sequence[float]],
    columns: Sequence[str],
    levels: Sequence[float],
) -> Figure:
    """A table of figures whose shade says the same; nothing where there is none."""
    figure, axes = axes_of(title, x="", size=(2.6 + 0.78 * len(columns), 1.4 + 0.3 * len(rows)))
    shown = np.array(list(rows.values()), dtype=np.float64)
    norm = BoundaryNorm(levels, ncolors=256)
    axes.imshow(np.ma.masked_invalid(shown), cmap=SHADES, norm=norm, aspect="auto")
    for (r, c), value in np.ndenumerate(shown):
        if np.isfinite(value):
            dark = norm(value) > DARK * 255
            axes.text(c, r, f"{round(value, 2) + 0:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if dark else "black")  # fmt: skip
    heads = [column.replace("_", " ") for column in columns]
    axes.set_xticks(range(len(columns)), heads, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), [method_name(name) for name in rows], fontsize=8)
    axes.grid(visible=False)
    return figure


def _price(record: BenchRecord) -> Figure:
    """Error at the best rate, for as many samples and for as many rewards, with intervals."""
    rows = list(record.price)
    figure, axes = axes_of(
        "What 1000 samples, and 1000 rewards, buy (own loss, median over worlds)",
        x="error at the best rate, 1000 samples",
        y="error at the best rate, 1000 rewards",
        size=(8.4, 5.6),
    )
    for row in rows:
        _cross(axes, colour_of(row["estimator"]), row["samples"], row["rewards"])
    points = [
        Point(
            method=(name := row["estimator"]),
            label=method_name(name),
            x=row["samples"][0],
            y=row["rewards"][0],
        )
        for row in rows
    ]
    draw_points(axes, points, methods=[point.method for point in points])
    return figure


def _bandits(record: BenchRecord) -> Figure:
    """Modes kept against the chance to be right; one dot per pair, named with its own loss."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    known = looks(list(dict.fromkeys(row["estimator"] for row in record.bandits)))
    named: list[tuple[Axes, list[Point]]] = []
    for place, bandit in enumerate(BANDITS):
        axes = figure.add_subplot(1, len(BANDITS), place + 1)
        prepare(axes, bandit, x="1 \u2212 P(right)", y="effective number of right arms")
        points = [_ended(record, row) for row in record.bandits if row["bandit"] == bandit]
        for point in points:
            mark(axes, point, known[point.method])
        cost_axis(axes.xaxis, [point.x for point in points])
        named.append((axes, points))
    for axes, points in named:
        name_points(axes, points, known)
    return figure


def _ended(record: BenchRecord, row: Mapping[str, Any]) -> Point:
    """Where a pair ended; the pair with the estimator's own loss has the name."""
    name, x, y = row["estimator"], 1 - row["right"][0], row["modes"][0]
    label = method_name(name) if record.own_loss[name] == row["loss"] else ""
    return Point(method=name, label=label, x=x, y=y)


def _cross(axes: Axes, colour: str, x: Bounds, y: Bounds) -> None:
    """The intervals of a point."""
    axes.plot(x[1:], [y[0], y[0]], color=colour, linewidth=0.8, alpha=0.8)
    axes.plot([x[0], x[0]], y[1:], color=colour, linewidth=0.8, alpha=0.8)
