"""The parser against trees whose values are known, the canonical form against its laws."""

import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.text.expressions import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_LENGTH,
    ExpressionError,
    canonical,
    numbers,
    parse,
    value,
)

OPERATIONS = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}
TREES = st.recursive(
    st.integers(0, 12),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner, st.booleans()),
    max_leaves=8,
)
"""Numbers, and (left, sign, right, whether in brackets that it may not need)."""


def written(tree, least=0):
    """A tree as text, in brackets where it binds more loosely than ``least``."""
    if isinstance(tree, int):
        return str(tree)
    left, sign, right, bracketed = tree
    binds = 2 if sign in "*/" else 1
    text = f"{written(left, binds)}{sign} {written(right, binds + 1)}"
    return f"({text})" if bracketed or binds < least else text


def exact(tree):
    if isinstance(tree, int):
        return Fraction(tree)
    left, sign, right, _ = tree
    return OPERATIONS[sign](exact(left), exact(right))


EXPRESSIONS = TREES.map(written).filter(lambda text: len(text) <= MAX_LENGTH)


@given(TREES)
def test_values_are_those_of_the_tree(tree):
    try:
        expected = exact(tree)
    except ZeroDivisionError:
        expected = None
    assert value(parse(written(tree))) == expected


@given(EXPRESSIONS)
def test_every_written_number_is_counted(text):
    digits = "".join(c if c.isdigit() else " " for c in text).split()
    assert sorted(numbers(parse(text)).elements()) == sorted(map(int, digits))


@given(EXPRESSIONS, EXPRESSIONS, EXPRESSIONS)
def test_order_and_grouping_of_sums_and_products_make_no_difference(a, b, c):
    def form(text):
        return canonical(parse(text))

    a, b, c = f"({a})", f"({b})", f"({c})"
    for sign in "+*":
        assert form(f"{a}{sign}{b}") == form(f"{b}{sign}{a}")
        assert form(f"({a}{sign}{b}){sign}{c}") == form(f"{a}{sign}({b}{sign}{c})")
        assert form(f"{c}{sign}{a}{sign}{b}") == form(f"{b}{sign}{c}{sign}{a}")
    assert form(f"{a}-{b}+{c}") == form(f"{a}+{c}-{b}")
    assert form(f"{a}/{b}*{c}") == form(f"{c}*{a}/{b}")


@given(EXPRESSIONS, EXPRESSIONS)
def test_one_form_means_one_value_and_the_same_numbers(a, b):
    left, right = parse(a), parse(b)
    if canonical(left) == canonical(right):
        assert value(left) == value(right)
        assert numbers(left) == numbers(right)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5-3", "3-5"),
        ("6/3", "3/6"),
        ("7-(2-1)", "7-2+1"),
        ("8/(4/2)", "8/4*2"),
        ("2*(3+4)", "2*3+2*4"),
        ("3*1", "3"),
        ("1+2*3", "(1+2)*3"),
        ("12+3", "1+23"),
    ],
)
def test_other_rearrangements_are_other_solutions(one, other):
    assert canonical(parse(one)) != canonical(parse(other))


def test_brackets_that_change_nothing_are_no_difference():
    assert canonical(parse("((2)) * (3)")) == canonical(parse("2*3"))
    assert canonical(parse("(((4)))")) == canonical(parse("4"))


def test_the_signs_that_models_write_are_read():
    assert value(parse("3 × 4 ÷ 2 − 1")) == 5
    assert value(parse("3 · 4 – 1")) == 11


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("7", "7"),
        ("007 + 00", "(+0+7)"),
        ("0" * MAX_DIGITS, "0"),
        ("100-01", "(+100-1)"),
        (" 1\n+\t2 ", "(+1+2)"),
        ("1\x1c+\u2003\u30002\xa0", "(+1+2)"),  # white space of other scripts
        ("( ( 2 ) )*3", "(*2*3)"),
        ("5-(3-1)-2", "(+5-(+3-1)-2)"),
        ("5-3+(1+2)", "(+1+2+5-3)"),
        ("2*(3/4)*5/6", "(*2*3*5/4/6)"),
        ("8/(2*2)+1", "(+(*8/(*2*2))+1)"),
    ],
)
def test_what_is_read_and_its_form(text, form):
    assert canonical(parse(text)) == form


def test_division_by_zero_has_no_value():
    assert value(parse("8 / (3 - 3)")) is None
    assert value(parse("1 + 2 / (4 - 2 * 2) * 0")) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "()",
        "(",
        ")",
        "1 +",
        "* 2",
        "-3",
        "3 - -2",
        "+4",
        "2 3",
        "2(3)",
        "(2)(3)",
        "1.5 + 2",
        "2 ** 3",
        "2 ^ 3",
        "7 // 2",
        "3 + 4 = 7",
        "three + 4",
        "1e3",
        "0x10",
        "1_000",
        "1_0",
        "0x1f",
        "0o7",
        "0b1",
        "1j",
        "1l",
        ".5",
        "1.",
        "1 2 + 3",
        "1 # 2",
        "1 +\\\n2",
        "1; 2",
        "2 * * 3",
        "2 / / 3",
        "1 + (-3)",
        "2(*3)",
        "2(**3)",
        "3()",
        "(1, 2)",
        "[1]",
        "(1 if 2 else 3)",
        "1 and 2",
        "1 < 2",
        "a.b",
        "f(1)",
        "'1'",
        "...",
        "5 % 2",
        "1 @ 2",
        "~1",
        "１ + 2",  # full width
        "0" * (MAX_DIGITS + 1),
        "1,000",
        "(1 + 2",
        "1 + 2)",
        "٣ + 4",  # digits of another script
        "²",
        "__import__('os')",
        "3 + 4\x00",
        "9" * (MAX_DIGITS + 1),
        "1" + "+1" * MAX_LENGTH,
        "(" * (MAX_DEPTH + 1) + "1" + ")" * (MAX_DEPTH + 1),
        "(" * 190,
        "-" * 190 + "1",
        "1" + "(1" * MAX_DEPTH,
    ],
)
def test_what_is_no_expression_is_refused(text):
    with pytest.raises(ExpressionError):
        parse(text)


@given(st.text(alphabet="0123456789+-*/() ×", max_size=60))
def test_any_text_is_read_or_refused(text):
    try:
        expression = parse(text)
    except ExpressionError:
        return
    assert canonical(parse(text)) == canonical(expression)


def test_the_limits_themselves_are_allowed():
    assert value(parse("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH)) == 1
    assert value(parse("9" * MAX_DIGITS)) == 10**MAX_DIGITS - 1
    assert value(parse("1" + "+1" * ((MAX_LENGTH - 1) // 2))) == (MAX_LENGTH + 1) // 2
