"""Arithmetic as people write it: whole numbers, + - * / and parentheses, exact values, one form.

Python's own parser reads it; a text that holds anything else is refused, and nothing is evaluated
as code.
"""

import ast
import operator
import re
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from itertools import accumulate
from typing import TypeAlias

MAX_LENGTH = 200
"""Characters of an expression."""
MAX_DEPTH = 20
"""Parentheses within parentheses."""
MAX_DIGITS = 12
"""Most digits of a number."""
SAME_AS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
"""Other signs for the operators, and what each is read as."""

Expression: TypeAlias = ast.expr
"""Nodes of whole numbers and of the four operations alone."""

_REFUSED = re.compile(r"[^0-9+*/() -]|[+*/-] *[+*/-]")
"""What no expression holds: other characters, and signs side by side."""
_LONG = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
_LEADING_ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
_OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_NODES = (ast.BinOp, ast.Constant, *_OPERATIONS)
_SUMS, _INVERSES = (ast.Add, ast.Sub), (ast.Sub, ast.Div)


class ExpressionError(ValueError):
    """A text that is no expression of this grammar."""


def parse(text: str) -> Expression:
    """The expression that a text is.

    White space is ignored between numbers and signs; ``×``, ``·``, ``÷``, ``−`` and ``–`` are read
    as ``*``, ``*``, ``/``, ``-`` and ``-``. A sign in front of a number (``-3``), decimals, powers,
    an equals sign, and a product without a sign (``2(3)``) are refused.

    Raises:
        ExpressionError: If the text is no expression, or is longer or deeper than the limits.

    >>> value(parse("(3 + 5) * 2 / 4"))
    Fraction(4, 1)
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            f"an expression of {len(text)} characters; at most {MAX_LENGTH} are read"
        )
    written = "".join(" " if sign.isspace() else SAME_AS.get(sign, sign) for sign in text).strip()
    if _LONG.search(written):
        raise ExpressionError(f"a number of more than {MAX_DIGITS} digits in {text!r}")
    if max(accumulate((sign == "(") - (sign == ")") for sign in written), default=0) > MAX_DEPTH:
        raise ExpressionError(f"parentheses more than {MAX_DEPTH} deep in {text!r}")
    if not _REFUSED.search(written):
        try:
            found = ast.parse(_LEADING_ZEROS.sub("", written), mode="eval").body
        except SyntaxError:
            pass
        else:
            if all(isinstance(node, _NODES) for node in ast.walk(found)):
                return found
    raise ExpressionError(
        f"{text!r} is no expression; whole numbers, + - * / and parentheses are read"
    )


def value(expression: Expression) -> Fraction | None:
    """The exact value; None where something is divided by 0."""
    try:
        return _value(expression)
    except ZeroDivisionError:
        return None


def numbers(expression: Expression) -> Counter[int]:
    """How often each number is written."""
    leaves = (node for node in ast.walk(expression) if isinstance(node, ast.Constant))
    return Counter(map(_whole, leaves))


def canonical(expression: Expression) -> str:
    """One text for all expressions that differ in the order of terms or factors alone.

    Two expressions are the same up to commutativity, and up to the grouping of sums of sums and of
    products of products (associativity): ``a + (b + c)``, ``c + a + b`` and ``(a + b) + c`` are one
    solution; so are ``a - b + c`` and ``a + c - b``. Nothing else is rearranged: ``a - (b - c)`` is
    not ``a - b + c``, ``a * (b + c)`` is not ``a * b + a * c``, and ``a * 1`` is not ``a``.

    >>> canonical(parse("2*(3+1)")) == canonical(parse("(1 + 3) * 2"))
    True
    """
    if not isinstance(expression, ast.BinOp):
        return str(_whole(expression))
    is_sum = isinstance(expression.op, _SUMS)
    sign, inverse_sign = ("+", "-") if is_sum else ("*", "/")
    parts = sorted((inverse, canonical(part)) for inverse, part in _parts(expression, is_sum))
    return "(" + "".join(f"{inverse_sign if inv else sign}{text}" for inv, text in parts) + ")"


def _parts(node: Expression, is_sum: bool) -> Iterator[tuple[bool, Expression]]:
    """Terms of a sum or factors of a product, with True where one is subtracted, or divided by."""
    if not isinstance(node, ast.BinOp) or isinstance(node.op, _SUMS) != is_sum:
        yield False, node
        return
    yield from _parts(node.left, is_sum)
    if isinstance(node.op, _INVERSES):
        yield True, node.right
    else:
        yield from _parts(node.right, is_sum)


def _value(node: Expression) -> Fraction:
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    return Fraction(_whole(node))


def _whole(leaf: Expression) -> int:
    return ast.literal_eval(leaf)
