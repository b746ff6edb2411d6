"""Curves and scatter plots as SVG text that takes its colour from the page around it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c8c00", "#7f7f7f")
"""Okabe and Ito's, which people with any colour vision tell apart; lines differ in dashes too."""
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
MARKERS = "osD^vPX*"


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a method looks, in every plot of a page."""

    colour: str
    dashes: str | tuple[int, tuple[int, ...]]
    marker: str


def style(number: int) -> Style:
    """Style of the n-th method; the first 64 differ in colour and dashes, and in colour and marker.

    After each round of colours, dashes and markers are shifted by one.
    """
    shifted = number + number // len(COLOURS)
    return Style(
        colour=COLOURS[number % len(COLOURS)],
        dashes=DASHES[shifted % len(DASHES)],
        marker=MARKERS[shifted % len(MARKERS)],
    )


_INK = "#010203"
"""Replaced by the page's own text colour."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one method over steps, a row a seed."""

    label: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    """[seeds, steps]."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run in a scatter plot."""

    label: str
    x: float
    y: float


def curves_svg(curves: Sequence[Curve], *, title: str, labels: Sequence[str]) -> str:
    """Mean over seeds; the band reaches from the lowest to the highest seed.

    Args:
        curves: To be drawn.
        title: Of the plot.
        labels: All labels of the page, so that a method looks the same in each plot.
    """
    figure, axes = _axes(title, "step")
    for curve in curves:
        look = style(labels.index(curve.label))
        axes.plot(
            curve.steps,
            curve.values.mean(axis=0),
            color=look.colour,
            linestyle=look.dashes,
            label=curve.label,
        )
        if len(curve.values) > 1:
            low, high = curve.values.min(axis=0), curve.values.max(axis=0)
            axes.fill_between(curve.steps, low, high, color=look.colour, alpha=0.15, linewidth=0)
    return _svg(figure, axes, title)


def scatter_svg(points: Sequence[Point], *, title: str, x: str, labels: Sequence[str]) -> str:
    """One mark a run, one shape a method; see :func:`curves_svg`."""
    figure, axes = _axes(title, x)
    for index, label in enumerate(labels):
        own = [point for point in points if point.label == label]
        if not own:
            continue
        axes.scatter(
            [point.x for point in own],
            [point.y for point in own],
            color=style(index).colour,
            marker=style(index).marker,
            label=label,
        )
    return _svg(figure, axes, title)


def aligned(rows: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps that every row has, and [rows, steps] values."""
    common = sorted(set(rows[0]).intersection(*rows[1:])) if rows else []
    values = np.array([[row[step] for step in common] for row in rows], dtype=np.float64)
    return np.array(common, dtype=np.float64), values


def _axes(title: str, x: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, 2.9), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10, color=_INK, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=9, color=_INK)
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(alpha=0.2, color=_INK)
    axes.set_facecolor("none")
    for side in axes.spines.values():
        side.set_color(_INK)
        side.set_alpha(0.4)
    figure.patch.set_alpha(0)
    return figure, axes


def _svg(figure: Figure, axes: Axes, title: str) -> str:
    """The same figure gives the same text; every name of an element is the figure's own."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        legend = axes.legend(handles, labels, fontsize=8, framealpha=0, labelcolor=_INK)
        for text in legend.get_texts():
            text.set_parse_math(False)
    written = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    prefix = re.sub(r"\W+", "-", title)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{prefix}"', 1)
