"""Answers in prose: which number they give, and when two are the same."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.text.numerals import final_answer, number, same


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("so 3 + 4 = <<3+4=7>>7.\n#### 7", "7"),
        ("#### 1,200 dollars\nmore text", "1,200 dollars"),
        ("#### 3\n#### 4", "4"),
        (r"thus \boxed{42}.", "42"),
        (r"\boxed{1}, no: \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}} indeed", r"\frac{1}{2}"),
        (r"\fboxed {5}", "5"),
        (r"#### 3, or \boxed{4}", "4"),
        (r"\boxed{4 never closed" + "\n#### 5", "5"),
        (r"\boxed{never closed", None),
        (r"\boxed{}", None),
        ("####", None),
        ("####   \n7", None),
        ("the answer is 7", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_box_or_what_follows_the_last_mark(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("18", 18),
        ("18.", 18),
        ("-5", -5),
        ("− 5", -5),
        ("+5", 5),
        ("1,000", 1000),
        ("1000.0", 1000),
        ("2,000,000", 2_000_000),
        ("$1,000.50", Fraction(2001, 2)),
        ("-$3", -3),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        (r"\dfrac{3}{4}", Fraction(3, 4)),
        (r"-\frac{1}{2}", Fraction(-1, 2)),
        ("7 apples", 7),
        ("20 km/h", 20),
        (r"7 \text{ apples}", 7),
        ("x = 9", 9),
        ("3 + 4 = 7", 7),
        ("**12**", 12),
        ("50%", 50),
        ("€ 5", 5),
        ("007", 7),
        (r"1{,}000", 1000),
        (r"12,\!345,\!678", 12_345_678),
        (r"1\,000.5", Fraction(2001, 2)),
        ("25 cm^2", 25),
        (r"25 \text{ m}^{2}", 25),
    ],
)
def test_the_number_of_an_answer(answer, value):
    assert number(answer) == value


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "none",
        "3 or 4",
        "2^3",
        r"10\,5",
        "3, 4",
        "10 - 5",
        "3/0",
        "1 2/0",
        "1e3",
        "1,00",
        "5 000",
        "9" * 5000,
        "1.2.3",
        "NaN",
        "inf",
        r"\frac{1}{x}+2",
    ],
)
def test_no_number_several_numbers_and_broken_ones_are_none(answer):
    assert number(answer) is None
    assert not same(answer, "3")


@pytest.mark.parametrize(
    ("answer", "truth", "equal"),
    [
        ("1,000", "1000.0", True),
        ("$18", "18 dollars", True),
        ("0.5", "1/2", True),
        (r"\frac{1}{2}", ".50", True),
        ("0.333", "1/3", False),
        ("50%", "50", True),
        ("50%", "0.5", True),
        ("0.5", "50%", True),
        (r"50\%", "50 percent", True),
        ("50%", "60%", False),
        ("100", "1", False),
        ("1%", "100%", False),
        ("-5", "5", False),
        ("five", "5", False),
    ],
)
def test_numbers_are_compared_whatever_their_notation(answer, truth, equal):
    assert same(answer, truth) is equal
    assert same(truth, answer) is equal


@given(st.integers(-(10**12), 10**12))
def test_commas_points_and_units_change_no_number(value):
    for written in (f"{value:,}", f"{value}.0", f"${value:,}.00", f"{value} apples"):
        assert number(written) == value
        assert same(written, str(value))
    assert not same(str(value), str(value + 1))


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_are_exact(above, below):
    sign = "-" if above < 0 else ""
    for written in (f"{above}/{below}", rf"{sign}\frac{{{abs(above)}}}{{{below}}}"):
        assert number(written) == Fraction(above, below)


@given(st.text(max_size=80))
def test_any_text_is_read_without_an_error(text):
    found = number(text)
    assert found is None or isinstance(found, Fraction)
    final_answer(text)
