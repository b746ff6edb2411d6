"""Draws README's picture: one response by four methods, and how runs of these methods learned.

    python -m scripts.docs.front

writes ``docs/pictures/front_light.svg`` and ``front_dark.svg``. The response is that of
``docs/pictures/response.json``; the curves are those of the kept records behind table_search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import escape
from numpy.typing import NDArray

from rlcredit.evaluation.stats import seed_interval
from rlcredit.report.colours import colour_of
from rlcredit.tables.grid import curve
from rlcredit.tables.kept import KeptRecords
from scripts.docs.picture import FULL, Drawn, credited, prompt_and_rewards

ROOT = Path(__file__).parents[2]
METHODS = {
    "grpo": "GRPO",
    "loo": "leave-one-out",
    "ospo": "OSPO",
    "random_credit": "random credit",
}
CURVE = "eval/validation/bm25/ndcg@10_sampled"
SEEDS = range(5)
WIDTH, HEIGHT = 890, 318
LEFT, RIGHT, TOP, BOTTOM = 545, 776, 46, 276
"""Edges of the plot, in pixels."""
LOWEST, HIGHEST, LAST = 0.2, 0.7, 100
"""The axes: nDCG@10, and steps."""
CHARACTER = 6.5
"""Width of a character of the phrases, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """What differs between a light and a dark page."""

    ink: str
    quiet: str
    up: str
    down: str


LIGHT = Theme(ink="#1f2328", quiet="#6b737c", up="33,102,172", down="214,96,2")
DARK = Theme(ink="#e6edf3", quiet="#9aa4ae", up="94,160,222", down="240,140,60")


@dataclass(frozen=True, kw_only=True)
class Learned:
    """How a method's runs learned: mean over seeds, and its 95 % interval."""

    method: str
    steps: NDArray[np.float64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def learned(method: str) -> Learned:
    """The curve of a method, of its runs on generated ESCI with the defaults.

    Raises:
        ValueError: If a seed's record is not kept.
    """
    kept = KeptRecords(folder=ROOT / "outputs" / "reference" / "jobs")
    common = {"size=sample", "dataset=esci", f"estimator={method}", "tracker=jsonl"}
    asked = [{*common, "trainer.threads=1", f"seed={seed}"} for seed in SEEDS]
    runs = [run for run in kept.runs if set(run.words) in asked]
    if len(runs) != len(asked):
        raise ValueError(
            f"{len(runs)} records of {method} in {kept.folder}, but {len(asked)} seeds"
        )
    points = np.stack([curve(run.read(), CURVE) for run in runs])
    intervals = [seed_interval(column) for column in points[:, :, 1].T]
    return Learned(
        method=method,
        steps=points[0, :, 0],
        mean=np.array([each.mean for each in intervals]),
        low=np.array([each.low for each in intervals]),
        high=np.array([each.high for each in intervals]),
    )


def picture(curves: Sequence[Learned], theme: Theme) -> str:
    """The whole SVG."""
    prompt, _ = prompt_and_rewards()
    rows = [line for number, name in enumerate(METHODS) for line in _row(number, name, theme)]
    body = [
        _text(16, 20, f"Which phrases earned the reward?  Query: “{prompt}”", theme.ink, bold=True),
        *rows,
        _text(LEFT, 20, "nDCG@10 on validation, sampled", theme.ink, bold=True),
        _text(LEFT, 37, "generated ESCI, mean and 95 % interval of five seeds", theme.quiet),
        *_axes(theme),
        *(line for each in curves for line in _curve(each)),
        *_labels(curves, theme),
    ]
    said = "One response coloured by four methods, and their learning curves"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{said}" font-family="system-ui, sans-serif" font-size="11.5">\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _text(x: float, y: float, text: str, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="{colour}"{weight}>{escape(text)}</text>'


def _row(number: int, name: str, theme: Theme) -> Iterator[str]:
    """One method: its name, what it costs, and the phrases on two lines."""
    top = 40 + 68 * number
    drawn = credited(name)
    rewards = "1 reward" if drawn.rewards == 1 else f"{drawn.rewards} rewards"
    yield f'<rect x="16" y="{top}" width="4" height="58" fill="{colour_of(name)}"/>'
    yield _text(27, top + 10, METHODS[name], theme.ink, bold=True)
    yield _text(130, top + 10, rewards, theme.quiet)
    yield from _phrases(drawn, top + 16, theme)


def _phrases(drawn: Drawn, top: float, theme: Theme) -> Iterator[str]:
    x, y = 27.0, top
    for part in drawn.parts:
        text = f"{part.text} {part.advantage:+.2f}"
        width = CHARACTER * len(text) + 10
        if x + width > LEFT - 36:
            x, y = 27.0, y + 22
        side = theme.up if part.advantage > 0 else theme.down
        strength = 0.08 + 0.6 * min(1.0, abs(part.advantage) / FULL)
        yield (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="18" rx="3" '
            f'fill="rgba({side},{strength:.2f})"/>'
        )
        yield _text(x + 5, y + 13, text, theme.ink)
        x += width + 5


def _at(step: float, value: float) -> tuple[float, float]:
    x = LEFT + (RIGHT - LEFT) * step / LAST
    return x, BOTTOM - (BOTTOM - TOP) * (value - LOWEST) / (HIGHEST - LOWEST)


def _axes(theme: Theme) -> Iterator[str]:
    for value in (0.2, 0.3, 0.4, 0.5, 0.6):
        _, y = _at(0, value)
        yield f'<path d="M{LEFT} {y:.0f}H{RIGHT}" stroke="{theme.quiet}" stroke-opacity=".25"/>'
        yield _text(LEFT - 22, y + 4, f"{value:.1f}"[1:], theme.quiet)
    for step in (0, 50, 100):
        x, _ = _at(step, LOWEST)
        yield _text(x - 8, BOTTOM + 18, str(step), theme.quiet)
    yield _text((LEFT + RIGHT) / 2 - 12, BOTTOM + 34, "step", theme.quiet)


def _curve(each: Learned) -> Iterator[str]:
    colour = colour_of(each.method)
    there = [_at(*point) for point in zip(each.steps, each.high, strict=True)]
    back = [_at(*point) for point in zip(each.steps[::-1], each.low[::-1], strict=True)]
    line = [_at(*point) for point in zip(each.steps, each.mean, strict=True)]
    yield f'<polygon points="{_points([*there, *back])}" fill="{colour}" fill-opacity=".14"/>'
    yield (
        f'<polyline points="{_points(line)}" fill="none" stroke="{colour}" stroke-width="2" '
        'stroke-linejoin="round"/>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def _labels(curves: Sequence[Learned], theme: Theme) -> Iterator[str]:
    """Each curve's name at its end, moved apart where two would overlap."""
    lowest = float("-inf")
    for each in sorted(curves, key=lambda curve: -curve.mean[-1]):
        _, y = _at(LAST, float(each.mean[-1]))
        lowest = max(y + 4, lowest + 14)
        colour = colour_of(each.method)
        yield f'<circle cx="{RIGHT + 9}" cy="{lowest - 4:.0f}" r="4" fill="{colour}"/>'
        yield _text(RIGHT + 17, lowest, METHODS[each.method], theme.ink)


if __name__ == "__main__":
    found = [learned(name) for name in METHODS]
    for name, theme in (("light", LIGHT), ("dark", DARK)):
        path = ROOT / "docs" / "pictures" / f"front_{name}.svg"
        path.write_text(picture(found, theme))
        print(path)
