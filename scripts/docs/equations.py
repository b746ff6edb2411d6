"""Equations as outlines within the page: they look alike everywhere, without a script or a font."""

from html import escape
from typing import Any

from matplotlib import rc_context
from matplotlib.path import Path
from matplotlib.textpath import TextPath

EM = 16.0
"""Size of a letter in the units of the outlines."""
MARGIN = 2.0
_COMMANDS = {
    Path.MOVETO: "M",
    Path.LINETO: "L",
    Path.CURVE3: "Q",
    Path.CURVE4: "C",
    Path.CLOSEPOLY: "Z",
}


def block(source: str, language: str, css_class: str, options: Any, md: Any, **rest: Any) -> str:
    """A fenced block ```` ```math ```` of LaTeX, which GitHub reads too, as an image in the text.

    Raises:
        ValueError: If matplotlib cannot read the LaTeX.
    """
    del language, options, md, rest
    return f'<div class="{css_class}">{drawn(source.strip())}</div>'


def drawn(latex: str) -> str:
    """An equation as SVG, in the colour of the text around it."""
    display = latex.replace(r"\frac", r"\dfrac")  # a block's fractions are large, as in LaTeX
    with rc_context({"mathtext.fontset": "cm"}):
        outline = TextPath((0, 0), f"${display}$", size=EM)
    box = outline.get_extents()
    left, top = box.x0 - MARGIN, -box.y1 - MARGIN
    width, height = box.width + 2 * MARGIN, box.height + 2 * MARGIN
    path = "".join(
        _COMMANDS[code] + ("" if code == Path.CLOSEPOLY else _flipped(points))
        for points, code in outline.iter_segments(simplify=False, curves=True)
    )
    return (
        f'<svg role="img" aria-label="{escape(latex)}" style="width: {width / EM:.2f}em" '
        f'viewBox="{left:.1f} {top:.1f} {width:.1f} {height:.1f}">'
        f'<path fill="currentColor" d="{path}"/></svg>'
    )


def _flipped(points: Any) -> str:
    """Pairs of coordinates with the vertical axis turned, as SVG has it."""
    signs = (1, -1)
    return " ".join(f"{signs[i % 2] * value:.1f}" for i, value in enumerate(points))
