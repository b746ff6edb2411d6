"""Learning curves with bands, and cost against quality: PNG and SVG, the same bytes each time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rlcredit.report.stats import mean_interval
from rlcredit.tables.grid import Grid, curve
from rlcredit.tables.jobs import SeedRun

STYLES = ("-", "--", "-.", ":")
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which tell apart without colour vision; styles differ as well."""
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
    lines = list(_curves(grid, data))
    if lines:
        figure, axes = _axes(grid, data, "step", grid.table.curve_of(data))
        for number, (label, steps, values) in enumerate(lines):
            _band(axes, number, label, steps, values)
        axes.legend(fontsize="x-small", ncols=2)
        yield "curves", figure
    points = list(_points(grid, data))
    if points:
        primary = grid.table.columns_of(data)[grid.table.primary_of(data)].label
        figure, axes = _axes(grid, data, "reward evaluations of a run", primary)
        for number, (label, cost, score) in enumerate(points):
            colour = COLOURS[number % len(COLOURS)]
            axes.scatter([cost], [score], color=colour, marker="os^Dv"[number % 5])
            axes.annotate(label, (cost, score), fontsize="x-small", xytext=(4, 2),
                          textcoords="offset points")  # fmt: skip
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


def _curves(grid: Grid, data: str) -> Iterator[Line]:
    """Label, steps and [S, steps] values of every row that trains."""
    metric = grid.table.curve_of(data)
    for key in grid.table.rows_of(data):
        row = grid.table.rows[key]
        if row.source is not None or row.phase == "before" or not metric:
            continue
        found = list(_points_of(grid.runs[data, key], metric))
        common = [points for points in found if np.array_equal(points[:, 0], found[0][:, 0])]
        if common and len(common[0]) > 1:
            yield row.label, common[0][:, 0], np.stack([points[:, 1] for points in common])


def _points_of(runs: Sequence[SeedRun], metric: str) -> Iterator[NDArray[np.float64]]:
    for run in runs:
        if run.record is not None and len(points := curve(run.record, metric)):
            yield points


def _band(
    axes: Axes, number: int, label: str, steps: NDArray[np.float64], values: NDArray[np.float64]
) -> None:
    colour = COLOURS[number % len(COLOURS)]
    style = STYLES[number // len(COLOURS) % len(STYLES)]
    axes.plot(steps, values.mean(0), style, color=colour, label=label, linewidth=1.4)
    bands = [mean_interval(column) for column in values.T]
    low = [band.mean if band.low is None else band.low for band in bands]
    high = [band.mean if band.high is None else band.high for band in bands]
    axes.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)


def _points(grid: Grid, data: str) -> Iterator[tuple[str, float, float]]:
    for key in grid.table.rows_of(data):
        cost = grid.cells.get((data, key, COST))
        score = grid.cells[data, key, grid.table.primary_of(data)].estimate
        if cost is not None and cost.estimate is not None and score is not None:
            yield grid.table.rows[key].label, cost.estimate.mean, score.mean
