"""Methods of one page can be told apart, however many there are."""

import re

import numpy as np

from rlcredit.report.curves import COLOURS, Curve, Point, curves_svg, scatter_svg, style


def test_the_first_methods_keep_their_look_and_sixty_four_differ_without_words():
    looks = [style(number) for number in range(64)]
    assert [look.colour for look in looks[:8]] == list(COLOURS)
    assert len({(look.colour, str(look.dashes)) for look in looks}) == 64
    assert len({(look.colour, look.marker) for look in looks}) == 64


LABELS = [f"method {number}" for number in range(16)]


def looks(svg):
    """Shape and style of what is drawn in a method's colour, apart from the legend."""
    drawn = svg.split('id="x-legend_1"')[0]
    found = re.findall(r'<path [^>]*\bd="([^"]*)"[^>]*style="([^"]*)"', drawn)
    return [(shape, how) for shape, how in found if any(colour in how for colour in COLOURS)]


def test_sixteen_curves_are_drawn_in_sixteen_ways():
    curves = [
        Curve(label=label, steps=np.arange(3.0), values=np.full((1, 3), float(number)))
        for number, label in enumerate(LABELS)
    ]
    found = looks(curves_svg(curves, title="x", labels=LABELS))
    assert len({how for _, how in found}) == 16


def test_sixteen_methods_have_sixteen_marks():
    points = [Point(label=label, x=1.0 + n, y=float(n)) for n, label in enumerate(LABELS)]
    assert len(set(looks(scatter_svg(points, title="x", x="cost", labels=LABELS)))) == 16
