"""Charts name their lines and dots, keep labels apart, and do not make much of a little."""

import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from numpy.testing import assert_allclose

from rlcredit.report.colours import COLOURS
from rlcredit.report.curves import (
    Curve,
    Point,
    axes_of,
    draw_curves,
    draw_points,
    save_figure,
    short_number,
    smoothed,
    spread,
    svg,
)

NAMES = [*COLOURS][:12]


def curve(name, values, steps=None):
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    steps = np.arange(float(values.shape[1])) if steps is None else np.asarray(steps)
    return Curve(method=name, label=name, steps=steps, values=values)


def drawn(draw, shown):
    figure, axes = axes_of("title", x="x", size=(7.5, 4.2))
    draw(axes, shown, methods=[each.method for each in shown])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure, axes, canvas.get_renderer()


def boxes(axes, renderer):
    return [Text.get_window_extent(text, renderer) for text in axes.texts]  # without their lines


def overlapping(found):
    return [
        (n, m)
        for n, one in enumerate(found)
        for m, other in enumerate(found[:n])
        if one.overlaps(other)
    ]


def test_twelve_lines_that_end_alike_have_labels_that_do_not_overlap():
    lines = [curve(name, [0.0, 0.5 + 0.001 * n]) for n, name in enumerate(NAMES)]
    figure, axes, renderer = drawn(draw_curves, lines)
    assert [text.get_text() for text in axes.texts] == NAMES
    found = boxes(axes, renderer)
    assert overlapping(found) == []
    edge = figure.get_window_extent(renderer)
    assert all(box.x1 <= edge.x1 + 1 for box in found), "a label is cut off"
    assert axes.get_legend() is None


def test_labels_stay_where_they_are_while_there_is_room():
    assert_allclose(spread(np.array([0.1, 0.5, 0.9]), 0.1), [0.1, 0.5, 0.9])
    moved = spread(np.array([0.5, 0.5, 0.5]), 0.1)
    assert_allclose(moved, [0.4, 0.5, 0.6])
    assert np.diff(spread(np.sort(np.random.default_rng(0).random(20)), 0.06)).min() > 0.06 - 1e-9


def test_a_long_line_is_smoothed_with_its_values_behind_it_and_a_short_one_is_not():
    long = np.random.default_rng(0).normal(size=100).cumsum()
    _, axes, _ = drawn(draw_curves, [curve("grpo", long)])
    behind, front = axes.lines
    assert_allclose(behind.get_ydata(), long)
    assert np.abs(np.diff(front.get_ydata())).mean() < 0.5 * np.abs(np.diff(long)).mean()
    assert behind.get_alpha() < 0.5
    _, axes, _ = drawn(draw_curves, [curve("grpo", long[:11])])
    (only,) = axes.lines
    assert_allclose(only.get_ydata(), long[:11])


def test_smoothing_is_the_mean_of_what_is_near_and_keeps_a_line():
    assert_allclose(smoothed(np.full(50, 3.0)), 3.0)
    values = np.arange(40.0)
    assert_allclose(smoothed(values)[5:-5], values[5:-5])
    assert smoothed(values)[0] == pytest.approx(1.0)  # of 0, 1, 2


def test_lines_of_other_lengths_say_where_they_end():
    _, axes, _ = drawn(draw_curves, [curve("grpo", [0, 1, 2]), curve("ospo", [0, 1])])
    assert [text.get_text() for text in axes.texts] == ["grpo, ends at 2", "ospo, ends at 1"][::-1]


def points(costs, scores):
    return [
        Point(method=name, label=name, x=x, y=y)
        for name, x, y in zip(NAMES, costs, scores, strict=False)
    ]


def test_two_costs_that_are_nearly_equal_stand_on_an_axis_that_begins_at_0():
    _, axes, _ = drawn(draw_points, points([424.8, 426.4], [0.5, 0.501]))
    assert axes.get_xlim()[0] == 0
    low, high = axes.get_ylim()
    assert high - low > 0.08


def test_ticks_of_costs_do_not_overlap_whatever_their_range():
    for costs in ([31_200, 31_700], [8_000, 160_000], [8_000, 575_246], [1, 1e7]):
        _, axes, renderer = drawn(draw_points, points(costs, [0.2, 0.6]))
        labels = [t for t in axes.get_xticklabels(which="both") if t.get_text()]
        shown = [t.get_window_extent(renderer) for t in labels]
        assert len(shown) >= 2
        assert overlapping(shown) == [], costs


def test_labels_of_dots_cover_neither_each_other_nor_dots():
    rng = np.random.default_rng(1)
    shown = points(rng.uniform(1000, 9000, 12), rng.uniform(0.4, 0.6, 12))
    _, axes, renderer = drawn(draw_points, shown)
    assert len(axes.texts) == 12
    assert overlapping(boxes(axes, renderer)) == []


def test_numbers_of_axes_are_short():
    assert [short_number(v) for v in (31_700, 160_000, 2e6, 0.5, 0)] == [
        "31.7k",
        "160k",
        "2M",
        "0.5",
        "0",
    ]


def test_an_svg_takes_the_ink_of_its_page_and_its_names_are_its_own():
    one, again, other = (
        svg(drawn(draw_curves, [curve("grpo", [0, 1])])[0], name)
        for name in ("A & <b>", "A & <b>", "another")
    )
    assert one == again
    assert 'aria-label="A &amp; &lt;b&gt;"' in one
    assert "currentColor" in one
    ids = [set(re.findall(r'\bid="([^"]*)"', text)) for text in (one, other)]
    assert len(ids[0]) > 5
    assert ids[0].isdisjoint(ids[1])


def test_a_saved_svg_has_ink_for_light_and_dark(tmp_path):
    figure, _, _ = drawn(draw_curves, [curve("grpo", [0, 1])])
    assert save_figure(figure, tmp_path, "a", name="a") == "a.svg"
    assert "prefers-color-scheme: dark" in (tmp_path / "a.svg").read_text()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
