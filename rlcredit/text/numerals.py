r"""The number that an answer in prose gives, and when two such numbers are the same.

Follows the conventions of GSM8K (arXiv:2110.14168), whose solutions end in ``#### 42``, and of
MATH, whose answers stand in ``\boxed{}``.
"""

import re
from collections.abc import Mapping
from fractions import Fraction

MAX_DIGITS = 40
"""Most digits of a numeral; a longer one is no answer."""

_MARK = "####"
_BOXED = re.compile(r"\\f?boxed\s*\{")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf)\s*\{([^{}]*)\}")
_DECORATION = re.compile(r"\\[,;:! ]|\\left|\\right|\\\(|\\\)|\\\[|\\\]|\$|£|€|\*\*|`|~")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|,?\\[,!])(?=\d{3}(?!\d))")
"""Commas of thousands as LaTeX writes them: ``1{,}000``, ``1,\\!000``, ``1\\,000``."""
_UNIT_POWER = re.compile(r"(?<=[^\W\d_])\s*\^\s*(?:\d|\{\d\})")
_RUN = r"(?>\.?\d[\d.,]*)"
"""All that may belong to one numeral; whether it is one, is looked at afterwards."""
_NUMERAL = re.compile(
    r"(?<![\w.,])(?:(?P<sign>[-+−])\s*)?(?:"
    rf"(?P<mixed>{_RUN})\s+(?P<above>{_RUN})\s*/\s*(?P<below>{_RUN})"
    rf"|(?P<over>{_RUN})\s*/\s*(?P<under>{_RUN})"
    rf"|(?P<plain>{_RUN}))"
    r"(?P<power>[eE][-+]?\d)?\s*(?P<percent>\\?%|percent\b|per cent\b)?"
)
_DECIMAL = re.compile(r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+")


def final_answer(response: str) -> str | None:
    r"""What a response says its answer is: None where it marks none.

    The last ``\boxed{...}`` (its braces matched), else the rest of the line behind the last
    ``####``. A box or a mark with nothing in it is no answer.

    >>> final_answer("so 3 + 4 = 7.\n#### 7 apples")
    '7 apples'
    """
    boxed = [match.end() for match in _BOXED.finditer(response)]
    found = _braced(response, boxed[-1]) if boxed else None
    if found is None and _MARK in response:
        behind = response.rsplit(_MARK, 1)[1].lstrip(" \t")
        found = behind.splitlines()[0] if behind else ""
    return found.strip() or None if found is not None else None


def number(answer: str) -> Fraction | None:
    r"""The one number that an answer gives, exactly; None where it gives none, or several.

    Thousands' commas, currency signs, units before or behind (``km``, ``cm^2``, ``\text{ pots}``),
    decimals, fractions (``3/4``, ``1 1/2``, ``\frac{3}{4}``) and a leading sign are read; powers
    of ten (``1e3``) are not. What stands before an equals sign is left out. Percent: :func:`same`.

    >>> number("$1,000.50 per week")
    Fraction(2001, 2)
    """
    found = _numeral(answer)
    return None if found is None else found[0]


def same(answer: str, truth: str) -> bool:
    r"""Are they the same number, whatever the notation?

    Exact: ``1,000`` is ``1000.0``, ``0.5`` is ``1/2``, ``.333`` is not ``1/3``. Units are not
    compared. A percentage equals another of the same figure; against a plain number, ``50%`` is
    both ``50`` (a question that asks for the percentage) and ``0.5``.

    >>> same("\\frac{1}{2}", "0.5"), same("50%", "0.5"), same("51", "50")
    (True, True, False)
    """
    left, right = _numeral(answer), _numeral(truth)
    if left is None or right is None:
        return False
    (ours, our_percent), (theirs, their_percent) = left, right
    if ours == theirs:
        return True
    if our_percent == their_percent:
        return False
    return ours == theirs * 100 if our_percent else ours * 100 == theirs


def _numeral(answer: str) -> tuple[Fraction, bool] | None:
    """The value as it is written, and whether it is a percentage."""
    text = _FRACTION.sub(r" \1/\2 ", _THOUSANDS.sub(",", answer))
    text = _UNIT_POWER.sub("", _WRAPPED.sub(r" \1 ", text))
    text = _DECORATION.sub(" ", text).rsplit("=", 1)[-1]
    found = list(_NUMERAL.finditer(text))
    if len(found) != 1 or found[0]["power"] is not None:
        return None
    parts = {name: part for name, part in found[0].groupdict().items() if part is not None}
    value = _value(parts)
    if value is None:
        return None
    return -value if parts.get("sign") in ("-", "−") else value, "percent" in parts


def _value(parts: Mapping[str, str]) -> Fraction | None:
    """Value of a match's named parts, without sign; None for no numeral, or a division by 0."""
    written = {name: _plain(parts[name]) for name in _PARTS if name in parts}
    if None in written.values():
        return None
    value = {name: Fraction(part) for name, part in written.items() if part is not None}
    divisor = value.get("below", value.get("under", Fraction(1)))
    if divisor == 0:
        return None
    whole, over = value.get("mixed", Fraction(0)), value.get("above", value.get("over"))
    return value["plain"] if over is None else whole + over / divisor


_PARTS = ("mixed", "above", "below", "over", "under", "plain")


def _plain(run: str) -> str | None:
    """Strip commas and what follows the last digit, for ``Fraction``; None if it is no numeral."""
    text = run.rstrip(".,")
    if len(text) > MAX_DIGITS or not _DECIMAL.fullmatch(text):
        return None
    return text.replace(",", "")


def _braced(text: str, start: int) -> str | None:
    """What stands between the brace before ``start`` and its closing one; None: never closed."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return None
