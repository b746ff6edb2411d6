"""Arithmetic as people write it: a small parser of its own, exact values, and a canonical form.

    sum      = product { ("+" | "-") product }
    product  = atom { ("*" | "/") atom }
    atom     = digits | "(" sum ")"

A text that is no such expression is refused; nothing is ever evaluated as code.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

MAX_LENGTH = 200
"""Characters of an expression."""
MAX_DEPTH = 20
"""Parentheses within parentheses."""
MAX_DIGITS = 12
"""Most digits of a number."""
SAME_AS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-"}
"""Other signs for the operators, and what each is read as."""

_INVERSE = {"+": False, "-": True, "*": False, "/": True}


class ExpressionError(ValueError):
    """A text that is no expression of this grammar."""


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number, 0 or more."""

    value: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A sum or a product as it is written, first to last: ``a - b + c`` is one chain of three."""

    is_sum: bool
    parts: tuple[tuple[bool, "Expression"], ...]
    """Each with True where it is subtracted, or divided by; never so the first."""


Expression: TypeAlias = Number | Chain


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
    tokens = list(_tokens(text))
    found, at = _sum(tokens, 0, 0)
    if at < len(tokens):
        raise ExpressionError(f"{tokens[at]!r} stands where a sign is expected in {text!r}")
    return found


def value(expression: Expression) -> Fraction | None:
    """The exact value; None where something is divided by 0."""
    if isinstance(expression, Number):
        return Fraction(expression.value)
    total = Fraction(0 if expression.is_sum else 1)
    for inverse, part in expression.parts:
        operand = value(part)
        if operand is None:
            return None
        if expression.is_sum:
            total += -operand if inverse else operand
        elif not inverse:
            total *= operand
        elif operand:
            total /= operand
        else:
            return None
    return total


def numbers(expression: Expression) -> Counter[int]:
    """How often each number is written."""
    if isinstance(expression, Number):
        return Counter([expression.value])
    return sum((numbers(part) for _, part in expression.parts), Counter())


def canonical(expression: Expression) -> str:
    """One text for all expressions that differ in the order of terms or factors alone.

    Two expressions are the same up to commutativity, and up to the grouping of sums of sums and of
    products of products (associativity): ``a + (b + c)``, ``c + a + b`` and ``(a + b) + c`` are one
    solution; so are ``a - b + c`` and ``a + c - b``. Nothing else is rearranged: ``a - (b - c)`` is
    not ``a - b + c``, ``a * (b + c)`` is not ``a * b + a * c``, and ``a * 1`` is not ``a``.

    >>> canonical(parse("2*(3+1)")) == canonical(parse("(1 + 3) * 2"))
    True
    """
    if isinstance(expression, Number):
        return str(expression.value)
    sign, inverse_sign = ("+", "-") if expression.is_sum else ("*", "/")
    parts = sorted(
        (inverse, canonical(part)) for inverse, part in _flat(expression.parts, expression.is_sum)
    )
    return "(" + "".join(f"{inverse_sign if inv else sign}{text}" for inv, text in parts) + ")"


def _flat(
    parts: tuple[tuple[bool, Expression], ...], is_sum: bool
) -> Iterator[tuple[bool, Expression]]:
    """The parts, with those of an inner chain of their kind in its place, unless it is inverse."""
    for inverse, part in parts:
        if not inverse and isinstance(part, Chain) and part.is_sum == is_sum:
            yield from _flat(part.parts, is_sum)
        else:
            yield inverse, part


def _tokens(text: str) -> Iterator[str]:
    digits = ""
    for character in text:
        if character.isascii() and character.isdigit():
            digits += character
            if len(digits) > MAX_DIGITS:
                raise ExpressionError(f"a number of more than {MAX_DIGITS} digits in {text!r}")
            continue
        if digits:
            yield digits
            digits = ""
        sign = SAME_AS.get(character, character)
        if sign in "+-*/()":
            yield sign
        elif not sign.isspace():
            raise ExpressionError(
                f"{character!r} in {text!r}; whole numbers, + - * / and parentheses are read"
            )
    if digits:
        yield digits


def _sum(tokens: list[str], at: int, depth: int) -> tuple[Expression, int]:
    return _chain(tokens, at, depth, is_sum=True)


def _chain(tokens: list[str], at: int, depth: int, *, is_sum: bool) -> tuple[Expression, int]:
    """A sum, or a product, from token ``at``; and the first token behind it."""
    signs = "+-" if is_sum else "*/"
    parts: list[tuple[bool, Expression]] = []
    inverse = False
    while True:
        if is_sum:
            part, at = _chain(tokens, at, depth, is_sum=False)
        else:
            part, at = _atom(tokens, at, depth)
        parts.append((inverse, part))
        if at == len(tokens) or tokens[at] not in signs:
            break
        inverse = _INVERSE[tokens[at]]
        at += 1
    return (parts[0][1] if len(parts) == 1 else Chain(is_sum, tuple(parts))), at


def _atom(tokens: list[str], at: int, depth: int) -> tuple[Expression, int]:
    if at == len(tokens):
        raise ExpressionError("the expression ends where a number is expected")
    token = tokens[at]
    if token.isdigit():
        return Number(int(token)), at + 1
    if token != "(":
        raise ExpressionError(f"{token!r} stands where a number or a parenthesis is expected")
    if depth == MAX_DEPTH:
        raise ExpressionError(f"parentheses more than {MAX_DEPTH} deep")
    inner, at = _sum(tokens, at + 1, depth + 1)
    if at == len(tokens) or tokens[at] != ")":
        raise ExpressionError("a parenthesis is not closed")
    return inner, at + 1
