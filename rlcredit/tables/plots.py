"""Learning curves with bands, and cost against quality: PNG and SVG, the same bytes each time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rlcredit.evaluation.names import measure_name
from rlcredit.evaluation.stats import seed_interval
from rlcredit.report.curves import Curve, Point, axes_of, draw_curves, draw_points, save_figure
from rlcredit.tables.declare import Row
from rlcredit.tables.grid import Grid, curve

SECONDS = "time/step_cpu_s"
COST = "evaluations"
"""The logged column that is a method's cost, where a table declares it."""
WIDTH = 8.4
"""Inches of a figure."""
TITLE_WIDTH = 92
"""Characters of a line of its title."""


def figures(grid: Grid, folder: Path) -> list[str]:
    """Write the figures that there are data for; their SVG names."""
    return [
        save_figure(figure, folder, f"{name}-{data}", name=f"{grid.name}/{data}/{name}")
        for data in grid.table.data
        for name, figure in _drawn(grid, data)
    ]


def _drawn(grid: Grid, data: str) -> Iterator[tuple[str, Figure]]:
    learned = list(learning(grid, data))
    if learned:
        yield "curves", _learning(grid, data, "step", [each.over_steps for each in learned])
    timed = [each.over_seconds for each in learned if each.seconds[-1] > 0]
    if timed:
        yield "seconds", _learning(grid, data, "processor seconds of training", timed)
    points = list(_points(grid, data))
    if len(points) > 1:
        primary = grid.table.columns_of(data)[grid.table.primary_of(data)].label
        figure, axes = _axes(grid, data, "reward evaluations per run", primary, lines=len(points))
        draw_points(axes, points, methods=[point.method for point in points])
        yield "cost", figure


def _axes(grid: Grid, data: str, x: str, y: str, *, lines: int) -> tuple[Figure, Axes]:
    """An empty figure, as high as its labels need."""
    label = grid.table.size(grid.size).label
    title = fill(f"{grid.table.data[data].label}. Size {grid.size}: {label}", TITLE_WIDTH)
    return axes_of(title, x=x, y=y, size=(WIDTH, max(4.2, 1.2 + 0.24 * lines)))


def _learning(grid: Grid, data: str, x: str, curves: list[Curve]) -> Figure:
    measure = grid.table.curve_of(data).removeprefix("eval/validation/")
    figure, axes = _axes(grid, data, x, f"{measure_name(measure)}, validation", lines=len(curves))
    draw_curves(axes, curves, methods=[curve.method for curve in curves])
    return figure


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How a row's runs learned."""

    row: Row
    steps: NDArray[np.float64]
    seconds: NDArray[np.float64]
    """Processor seconds that the steps up to each of these took, a mean over the runs."""
    values: NDArray[np.float64]
    """[S, steps]."""

    @property
    def over_steps(self) -> Curve:
        """The curve with its interval over seeds."""
        return self._at(self.steps)

    @property
    def over_seconds(self) -> Curve:
        """The same over what the steps took."""
        return self._at(self.seconds)

    def _at(self, positions: NDArray[np.float64]) -> Curve:
        bands = [seed_interval(column) for column in self.values.T]
        low = np.array([band.mean if band.low is None else band.low for band in bands])
        high = np.array([band.mean if band.high is None else band.high for band in bands])
        return Curve(
            method=self.row.method,
            label=self.row.label,
            steps=positions,
            values=self.values,
            band=(low, high),
        )


def learning(grid: Grid, data: str) -> Iterator[Learned]:
    """Every row that trains, by those of its runs measured at the same steps as the first."""
    metric = grid.table.curve_of(data)
    for key in grid.table.rows_of(data):
        row = grid.table.rows[key]
        if not row.trains or not metric:
            continue
        found = [
            r.record for r in grid.runs[data, key] if r.record and len(curve(r.record, metric))
        ]
        points = [curve(record, metric) for record in found]
        steps = points[0][:, 0] if points else np.empty(0)
        same = [n for n, own in enumerate(points) if np.array_equal(own[:, 0], steps)]
        if len(steps) > 1:
            yield Learned(
                row=row,
                steps=steps,
                seconds=np.stack([_spent(curve(found[n], SECONDS), steps) for n in same]).mean(0),
                values=np.stack([points[n][:, 1] for n in same]),
            )


def _spent(clock: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds of all steps up to each of some."""
    total = np.concatenate([[0.0], np.cumsum(clock[:, 1])])
    return total[np.searchsorted(clock[:, 0], steps, side="right")]


def _points(grid: Grid, data: str) -> Iterator[Point]:
    for key in grid.table.rows_of(data):
        cost, row = grid.cells.get((data, key, COST)), grid.table.rows[key]
        score = grid.cells[data, key, grid.table.primary_of(data)].estimate
        if cost is not None and cost.estimate is not None and score is not None:
            yield Point(method=row.method, label=row.label, x=cost.estimate.mean, y=score.mean)
