"""Lines and dots of methods, each named where it is drawn, on axes that fit their data."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from html import escape
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from PIL import Image

from rlcredit.report.colours import Look, looks

INK = "#1c2331"
"""Colour of texts and axes in a PNG; an SVG takes that of the page around it."""
DARK_INK = "#e7eaf0"
PNG_DPI = 130
PNG_COLOURS = 96
FEW = 30
"""A line of more points than this is smoothed, with its points behind it."""
NARROW = 10
"""Costs that differ by less than this factor have a linear axis that begins at 0."""
CROWD = 6
"""Bands of more lines than this are fainter."""
TALL = 0.08
"""An axis of scores spans this at least, so that two runs that are alike look alike."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one method over steps or seconds, a row per seed."""

    method: str
    """Name and settings, which say its look (:func:`rlcredit.report.colours.looks`)."""
    label: str
    """What people call it."""
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    """[seeds, steps]."""
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """Lower and upper edge, [steps] each; None: the lowest and the highest seed."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One dot of a scatter plot."""

    method: str
    label: str
    """Empty: the dot has no name beside it."""
    x: float
    y: float


_LEADER = {"arrowstyle": "-", "linewidth": 0.6, "alpha": 0.6, "shrinkA": 0, "shrinkB": 0}
"""A line from a label to what it names."""


def axes_of(title: str, *, x: str, y: str = "", size: tuple[float, float]) -> tuple[Figure, Axes]:
    """An empty figure of so many inches, without a background."""
    figure = Figure(figsize=size, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    prepare(axes, title, x=x, y=y)
    return figure, axes


def prepare(axes: Axes, title: str, *, x: str, y: str = "") -> None:
    """Words of a plot, and ink and grid that leave its data in front."""
    axes.set_title(title, fontsize=10, color=INK, loc="left", parse_math=False)
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(alpha=0.15, color=INK)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    for name, side in axes.spines.items():
        side.set_color(INK)
        side.set_alpha(0.4)
        side.set_visible(name in ("left", "bottom"))


def draw_curves(axes: Axes, curves: Sequence[Curve], *, methods: Sequence[str]) -> None:
    """Mean over seeds with its band; long lines smoothed, what they smooth behind them.

    Where curves end at different steps, each label says where its own does.

    Args:
        axes: To draw on.
        curves: At least one, of two points or more.
        methods: All methods of the page, so that one looks the same in each plot.
    """
    known = looks(methods)
    whole, faint = {curve.steps[-1] for curve in curves}, 0.12 if len(curves) <= CROWD else 0.05
    ends: list[tuple[str, float, float, str]] = []
    for curve in curves:
        look, mean = known[curve.method], curve.values.mean(axis=0)
        low, high = curve.band or (curve.values.min(axis=0), curve.values.max(axis=0))
        shown = mean
        if len(mean) > FEW:
            shown = smoothed(mean)
            axes.plot(curve.steps, mean, color=look.colour, alpha=0.4, linewidth=0.7)
        elif len(curve.values) > 1:
            axes.fill_between(curve.steps, low, high, color=look.colour, alpha=faint, linewidth=0)
        axes.plot(curve.steps, shown, color=look.colour, linestyle=look.dashes, linewidth=1.6)
        until = f", ends at {curve.steps[-1]:g}" if len(whole) > 1 else ""
        ends.append((curve.label + until, curve.steps[-1], float(shown[-1]), look.colour))
    axes.margins(x=0.01)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    _name_ends(axes, ends)


def smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of a tenth of the points around each; fewer at both ends."""
    half = max(1, len(values) // 20)
    window = np.ones(2 * half + 1)
    counts = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / counts


def _name_ends(axes: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """A label for each line, right of the plot, as high as its end where there is room."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    low, high = axes.get_ylim()
    room = 9.5 / 72 / (0.78 * figure.get_figheight())
    order = sorted(range(len(ends)), key=lambda n: ends[n][2])
    wanted = np.array([(ends[n][2] - low) / (high - low) for n in order])
    for n, height in zip(order, spread(wanted, room), strict=True):
        label, x, y, colour = ends[n]
        axes.annotate(
            label,
            xy=(x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=colour,
            fontsize=8,
            va="center",
            parse_math=False,
            annotation_clip=False,
            arrowprops=_LEADER | {"color": colour, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(wanted: NDArray[np.float64], room: float) -> NDArray[np.float64]:
    """Heights in ascending order, moved as little as leaves ``room`` between neighbours."""
    blocks: list[tuple[float, int]] = []  # mean of (height - its place in the block), members
    for height in wanted:
        mean, size = float(height), 1
        while blocks and blocks[-1][0] + blocks[-1][1] * room > mean:
            before, count = blocks.pop()
            mean = (before * count + (mean - count * room) * size) / (count + size)
            size += count
        blocks.append((mean, size))
    return np.array([mean + room * n for mean, size in blocks for n in range(size)])


def draw_points(axes: Axes, points: Sequence[Point], *, methods: Sequence[str]) -> None:
    """A mark for each point, with its label beside it."""
    known = looks(methods)
    for point in points:
        mark(axes, point, known[point.method])
    cost_axis(axes.xaxis, [point.x for point in points])
    score_axis(axes, [point.y for point in points])
    name_points(axes, points, known)


def mark(axes: Axes, point: Point, look: Look) -> None:
    """A dot in the look of its method."""
    axes.scatter([point.x], [point.y], color=look.colour, marker=look.marker, s=34, linewidth=0)


def cost_axis(axis: Axis, values: Sequence[float]) -> None:
    """From 0 where costs are of one size, else logarithmic, with ticks at 1, 2 and 5."""
    low, high = min(values), max(values)
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    if low > 0 and high / low >= NARROW:
        axis.axes.set_xscale("log")
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 300 else (1.0,)))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axis.axes.set_xlim(low / 1.4, high * 1.4)
    else:
        axis.axes.set_xlim(0, high * 1.1 or 1.0)


def short_number(value: float) -> str:
    """``31,700`` as ``31.7k``, ``0.002`` as it is."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def score_axis(axes: Axes, values: Sequence[float]) -> None:
    """A range that does not make a hair of difference fill the plot."""
    low, high = min(values), max(values)
    missing = max(0.0, TALL - (high - low)) / 2
    pad = 0.08 * max(high - low, TALL)
    axes.set_ylim(low - missing - pad, high + missing + pad)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


_PLACES = tuple(
    (dx, dy)
    for reach in (7, 14, 22, 32, 44, 58)
    for dx, dy in (
        (reach, 0),
        *((side * 0.8 * reach, up * reach) for up in (0.7, -0.7, 1.2, -1.2) for side in (1, -1)),
        (-reach, 0),
    )
)
"""Where a label may stand, in points from its dot; nearer ones first."""


def name_points(axes: Axes, points: Sequence[Point], known: Mapping[str, Look]) -> None:
    """A label beside each dot, where it covers no other label and no dot."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    figure.set_layout_engine("none")  # settled: labels are measured in it, and do not move it
    renderer, frame, unit = canvas.get_renderer(), axes.get_window_extent(), figure.dpi / 72
    dots = [axes.transData.transform((point.x, point.y)) for point in points]
    boxes = [Bbox.from_bounds(x - 4 * unit, y - 4 * unit, 8 * unit, 8 * unit) for x, y in dots]
    for number, point in enumerate(points):
        if not point.label:
            continue
        colour, others = known[point.method].colour, [*boxes[:number], *boxes[number + 1 :]]
        for place in _PLACES:
            text = _beside(axes, point, colour, place)
            box = _extent(text, renderer)
            inside = frame.containsx(box.x0) and frame.containsx(box.x1) and frame.containsy(box.y0)
            if inside and not any(box.overlaps(other) for other in others):
                break
            text.remove()
        else:  # no room: it may cover another
            box = _extent(_beside(axes, point, colour, _PLACES[0]), renderer)
        boxes.append(box)


def _extent(label: Annotation, renderer: RendererAgg) -> Bbox:
    """Where a label's words stand, without the line to its dot."""
    label.update_positions(renderer)
    return Text.get_window_extent(label, renderer)


def _beside(axes: Axes, point: Point, colour: str, place: tuple[float, float]) -> Annotation:
    """The label of a dot so many points away, with a line to it where it is not next to it."""
    dx, dy = place
    line = _LEADER | {"color": colour, "relpos": (0 if dx > 0 else 1, 0.5)}
    return axes.annotate(
        point.label,
        xy=(point.x, point.y),
        xytext=place,
        textcoords="offset points",
        color=colour,
        fontsize=8,
        ha="left" if dx > 0 else "right" if dx < 0 else "center",
        va="center",
        parse_math=False,
        arrowprops=line if abs(dx) + abs(dy) > 20 else None,
    )


def aligned(rows: Sequence[Mapping[int, float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps that every row has, and [rows, steps] values."""
    common = sorted(set(rows[0]).intersection(*rows[1:])) if rows else []
    values = np.array([[row[step] for step in common] for row in rows], dtype=np.float64)
    return np.array(common, dtype=np.float64), values


_FONTS = ["DejaVu Sans", "Verdana", "sans-serif"]
_SAID = ("Date", "Creator", "Format", "Type")
"""What matplotlib would write into an SVG about its making."""


def svg(figure: Figure, name: str) -> str:
    """The figure as SVG text in the ink of the page around it; the same figure, the same text.

    Every name of an element is the figure's own, so that one page can hold several.
    """
    written = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.sans-serif": _FONTS}):
        figure.savefig(written, format="svg", metadata=dict.fromkeys(_SAID))
    text = written.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", text)
    prefix = blake2b(name.encode(), digest_size=3).hexdigest()
    text = re.sub(r'\bid="', f'id="f{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#f{prefix}-", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(name)}"', 1)


_SCHEMES = (
    f"<style>svg {{ color: {INK} }} "
    f"@media (prefers-color-scheme: dark) {{ svg {{ color: {DARK_INK} }} }}</style>"
)


def save_figure(figure: Figure, folder: Path, stem: str, *, name: str) -> str:
    """Write a PNG on white, and an SVG for light and dark pages; the name of the SVG."""
    drawn = svg(figure, name)
    inner = drawn.index(">") + 1
    (folder / f"{stem}.svg").write_text(drawn[:inner] + _SCHEMES + drawn[inner:], encoding="utf-8")
    figure.patch.set_alpha(1)
    figure.set_dpi(PNG_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    few = image.quantize(PNG_COLOURS, dither=Image.Dither.NONE)  # a quarter of the size
    few.save(folder / f"{stem}.png", optimize=True)
    return f"{stem}.svg"
