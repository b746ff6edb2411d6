"""Learning curves with bands, and cost against quality: PNG and SVG, the same bytes each time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rlcredit.evaluation.stats import seed_interval
from rlcredit.tables.grid import Grid, curve

STYLES = ("-", "--", "-.", ":")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which tell apart without colour vision; styles differ as well."""
SECONDS = "time/step_cpu_s"
COST = "evaluations"
"""The logged column that is a method's cost, where a table declares it."""


def figures(grid: Grid, folder: Path) -> list[str]:
    """Write the figures that there are data for; their SVG names."""
    drawn: list[str] = []
    for data in grid.table.data:
        for name, figure in _drawn(grid, data):
            mpl.rcParams["svg.hashsalt"] = f"{grid.name}/{data}/{name}"
            FigureCanvasAgg(figure)
            stem = f"{name}-{data}"
            figure.savefig(folder / f"{stem}.png", dpi=130, metadata={"Software": None})
            figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})
            drawn.append(f"{stem}.svg")
    return drawn


def _drawn(grid: Grid, data: str) -> Iterator[tuple[str, Figure]]:
    lines = list(curves(grid, data))
    if lines:
        yield "curves", _learning(grid, data, "step", [(c.label, c.steps, c.values) for c in lines])
    by_second = [(c.label, c.seconds, c.values) for c in lines if c.seconds[-1] > 0]
    if by_second:
        yield "seconds", _learning(grid, data, "processor seconds of training", by_second)
    points = list(_points(grid, data))
    if points:
        primary = grid.table.columns_of(data)[grid.table.primary_of(data)].label
        figure, axes = _axes(grid, data, "reward evaluations of a run", primary)
        for number, (label, cost, score) in enumerate(points):
            colour, marker = COLOURS[number % len(COLOURS)], "os^Dv"[number % 5]
            axes.scatter([cost], [score], color=colour, marker=marker, label=label)
        figure.legend(loc="outside right upper", fontsize="x-small")
        axes.set_xscale("log")
        yield "cost", figure


def _axes(grid: Grid, data: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    label = grid.table.size(grid.size).label
    axes.set_title(f"{grid.name}, {grid.table.data[data].label} ({grid.size}: {label})",
                   fontsize="small")  # fmt: skip
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


Line = tuple[str, NDArray[np.float64], NDArray[np.float64]]
"""Label, positions [points] and values [S, points]."""


def _learning(grid: Grid, data: str, x: str, lines: Sequence[Line]) -> Figure:
    figure, axes = _axes(grid, data, x, grid.table.curve_of(data))
    for number, (label, positions, values) in enumerate(lines):
        _band(axes, number, label, positions, values)
    axes.legend(fontsize="x-small", ncols=2)
    return figure


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How a row's runs learned."""

    label: str
    steps: NDArray[np.float64]
    seconds: NDArray[np.float64]
    """Processor seconds that the steps up to each of these took, a mean over the runs."""
    values: NDArray[np.float64]
    """[S, steps]."""


def curves(grid: Grid, data: str) -> Iterator[Curve]:
    """Curve of every row that trains, of its runs measured at the same steps as the first."""
    metric = grid.table.curve_of(data)
    for key in grid.table.rows_of(data):
        row = grid.table.rows[key]
        if row.source is not None or row.phase == "before" or not metric:
            continue
        found = [
            r.record for r in grid.runs[data, key] if r.record and len(curve(r.record, metric))
        ]
        points = [curve(record, metric) for record in found]
        steps = points[0][:, 0] if points else np.empty(0)
        same = [n for n, own in enumerate(points) if np.array_equal(own[:, 0], steps)]
        if len(steps) > 1:
            yield Curve(
                label=row.label,
                steps=steps,
                seconds=np.stack([_spent(curve(found[n], SECONDS), steps) for n in same]).mean(0),
                values=np.stack([points[n][:, 1] for n in same]),
            )


def _spent(clock: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of all steps up to each of some."""
    total = np.concatenate([[0.0], np.cumsum(clock[:, 1])])
    return total[np.searchsorted(clock[:, 0], steps, side="right")]


def _band(
    axes: Axes, number: int, label: str, steps: NDArray[np.float64], values: NDArray[np.float64]
) -> None:
    colour = COLOURS[number % len(COLOURS)]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    axes.plot(steps, values.mean(0), style, color=colour, label=label, linewidth=1.4)
    bands = [seed_interval(column) for column in values.T]
    low = [band.mean if band.low is None else band.low for band in bands]
    high = [band.mean if band.high is None else band.high for band in bands]
    axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)


def _points(grid: Grid, data: str) -> Iterator[tuple[str, float, float]]:
    for key in grid.table.rows_of(data):
        cost = grid.cells.get((data, key, COST))
        score = grid.cells[data, key, grid.table.primary_of(data)].estimate
        if cost is not None and cost.estimate is not None and score is not None:
            yield grid.table.rows[key].label, cost.estimate.mean, score.mean
