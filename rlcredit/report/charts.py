"""The charts of a report: how runs learned, and what they cost."""

from collections.abc import Callable, Iterator, Sequence

from rlcredit.evaluation.names import measure_name
from rlcredit.report.curves import (
    Curve,
    Point,
    aligned,
    axes_of,
    draw_curves,
    draw_points,
    svg,
)
from rlcredit.report.runs import Method, ReportedRun

SIZE = (4.8, 2.9)
"""Inches."""
CURVES: tuple[tuple[str, str], ...] = (
    ("reward/mean", "Reward of the training batch"),
    ("train/entropy_nats", "Entropy, nats per token"),
    ("response/length_tokens", "Tokens per response"),
    ("segments/per_response", "Segments per response"),
    ("reward/group_std", "Spread of rewards within a group"),
)
"""Logged metric, and what a reader calls it."""
COSTS: tuple[tuple[Callable[[ReportedRun], float], str], ...] = (
    (lambda run: run.evaluations, "reward evaluations of the run"),
    (lambda run: run.summary.wall_time_s, "seconds of the run"),
)


def charts(methods: Sequence[Method]) -> Iterator[str]:
    """SVG texts: the validation measure first, then training, then quality against cost."""
    headlines = dict.fromkeys(run.summary.headline for m in methods for run in m.runs)
    validation = [
        (f"eval/validation/{name}", f"Validation: {measure_name(name)}") for name in headlines
    ]
    names = [method.name for method in methods]
    for metric, title in (*validation, *CURVES):
        curves = [curve for method in methods if (curve := _curve(method, metric)) is not None]
        if curves:
            figure, axes = axes_of(title, x="step", size=SIZE)
            draw_curves(axes, curves, methods=names)
            yield svg(figure, title)
    for headline in headlines:
        yield from _costs(headline, methods)


def _costs(headline: str, methods: Sequence[Method]) -> Iterator[str]:
    """Quality against cost, where there are two runs to compare."""
    shown = [
        (method, run)
        for method in methods
        for run in method.runs
        if run.summary.headline == headline
    ]
    if len(shown) < 2:
        return
    for cost, unit in COSTS:
        title = f"Test: {measure_name(headline)}"
        figure, axes = axes_of(title, x=unit, size=SIZE)
        points = [
            Point(method=m.name, label=m.label, x=cost(run), y=run.change.after.mean)
            for m, run in shown
        ]
        draw_points(axes, points, methods=[method.name for method in methods])
        yield svg(figure, f"{title} against {unit}")


def _curve(method: Method, metric: str) -> Curve | None:
    """The mean over seeds at the steps that all of them have; None below two steps."""
    rows = [column for run in method.runs if len(column := run.column(metric)) > 1]
    if not rows:
        return None
    steps, values = aligned(rows)
    if len(steps) < 2:
        return None
    return Curve(method=method.name, label=method.label, steps=steps, values=values)


def uneven(methods: Sequence[Method]) -> list[str]:
    """A sentence for each method whose seeds have different numbers of steps."""
    found: list[str] = []
    for method in methods:
        steps = sorted({run.summary.steps for run in method.runs})
        if len(steps) > 1:
            found.append(
                f"{method.label}: its runs have {', '.join(map(str, steps))} steps; its lines end "
                f"at step {steps[0]}, the last that all of them have."
            )
    return found
