"""Pictures of what the bench found: PNG and SVG, the same bytes each time."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image

from rlcredit.bench.cells import own_entries
from rlcredit.bench.climb import BANDITS
from rlcredit.bench.compare import Resampled, median
from rlcredit.bench.run import Entry, Found
from rlcredit.bench.summary import VALUES

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which tell apart without colour vision; marks differ as well."""
MARKS = "os^DvPX*<>"
COLOURS_KEPT = 48
"""Colours that a PNG keeps."""


def draw_figures(found: Found, folder: Path) -> list[str]:
    """Write every figure that there are data for; the names of their PNG files."""
    names: list[str] = []
    for name, figure in _drawn(found):
        with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
            figure.set_dpi(100)
            _save_png(figure, folder / f"{name}.png")
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        names.append(f"{name}.png")
    return names


def _save_png(figure: Figure, path: Path) -> None:
    """Write a PNG with few colours, which is a quarter of the size."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    image.quantize(COLOURS_KEPT, dither=Image.Dither.NONE).save(path, optimize=True)


def _drawn(found: Found) -> Iterator[tuple[str, Figure]]:
    own = own_entries(found)
    worlds = [world.name for world in found.worlds]
    if own:
        cosines = [[_cosine_of(row, world) for world in worlds] for row in own.values()]
        title = "Cosine of the expected gradient with the true one (own loss)"
        yield "directions", _heat(title, list(own), worlds, cosines, low=0.0)
        yield "price", _price(found)
    agreements = {
        name: [each.agreement for each in found.ordered if each.estimator == name]
        for name in found.methods.distinct
    }
    agreements = {name: kept for name, kept in agreements.items() if kept}
    if agreements:
        rows = [
            [_mean([v.mean for one in kept if (v := getattr(one, key)) is not None])
             for key in VALUES]
            for kept in agreements.values()
        ]  # fmt: skip
        title = "Rank correlation of the advantages with the truth, mean over worlds"
        heads = [key.replace("_", " ") for key in VALUES]
        yield "credit", _heat(title, list(agreements), heads, rows, low=-1.0)
    if found.bandits:
        yield "bandits", _bandits(found)


def _cosine_of(row: Mapping[str, Entry], world: str) -> float:
    entry = row.get(world)
    return np.nan if entry is None or entry.here.cosine is None else entry.here.cosine.mean


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else np.nan


def _heat(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: list[list[float]],
    *,
    low: float,
) -> Figure:
    """A table of figures whose shade says the same; nothing where there is none."""
    figure = Figure(
        figsize=(2.2 + 0.78 * len(columns), 1.4 + 0.3 * len(rows)), layout="constrained"
    )
    axes = figure.add_subplot()
    shown = np.array(values, dtype=np.float64)
    axes.imshow(np.ma.masked_invalid(shown), cmap="cividis", vmin=low, vmax=1, aspect="auto")
    for (r, c), value in np.ndenumerate(shown):
        if np.isfinite(value):
            dark = value < low + 0.6 * (1 - low)
            axes.text(c, r, f"{value:.2f}", ha="center", va="center", fontsize=7,
                      color="white" if dark else "black")  # fmt: skip
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_title(title, fontsize="small")
    return figure


def _price(found: Found) -> Figure:
    """Error at the best rate, for as many samples and for as many rewards, with intervals."""
    figure, axes = _axes("What 1000 samples, and 1000 rewards, buy (own loss, median over worlds)")
    for number, (name, row) in enumerate(own_entries(found).items()):
        here = [entry.here for entry in row.values()]
        samples = median([c.by_samples.at_best_rate for c in here])
        rewards = median([c.by_rewards.at_best_rate for c in here])
        _cross(axes, number, samples, rewards)
        _point(axes, number, name, samples.mean, rewards.mean)
    axes.set_xlabel("error at the best rate, 1000 samples")
    axes.set_ylabel("the same, 1000 rewards")
    axes.legend(fontsize=7, ncols=2)
    return figure


def _bandits(found: Found) -> Figure:
    """Modes kept against the chance to be right; one mark per estimator, one point per loss."""
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    numbers = {name: number for number, name in enumerate(found.methods.distinct)}
    for place, bandit in enumerate(BANDITS):
        axes = figure.add_subplot(1, len(BANDITS), place + 1)
        seen: set[str] = set()
        for result in found.bandits:
            end = result.bandits[bandit]
            label = None if result.estimator in seen else result.estimator
            seen.add(result.estimator)
            _point(axes, numbers[result.estimator], label, 1 - end.right.mean, end.modes.mean)
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_title(bandit, fontsize="small")
        axes.set_xlabel("1 - P(right)")
        axes.set_ylabel("effective number of right arms")
        if not place:
            axes.legend(fontsize=6, ncols=2)
    return figure


def _point(axes: Axes, number: int, label: str | None, x: float, y: float) -> None:
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
    axes.scatter([x], [y], color=colour, marker=mark, s=26, label=label, alpha=0.8)


def _cross(axes: Axes, number: int, x: Resampled, y: Resampled) -> None:
    """The intervals of a point."""
    colour = COLOURS[number % len(COLOURS)]
    axes.plot([x.low, x.high], [y.mean, y.mean], color=colour, linewidth=0.8, alpha=0.8)
    axes.plot([x.mean, x.mean], [y.low, y.high], color=colour, linewidth=0.8, alpha=0.8)


def _axes(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize="small")
    return figure, axes
