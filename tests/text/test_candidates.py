"""Candidates are found in text as they are meant, and nowhere else."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.text.candidates import candidate_spans, instruction, written
from rlcredit.text.response import TextRules

CASES = {
    "<c1>tent</c1><c2>boat, red</c2>": ["tent", "boat, red"],
    "I think:\n<c1> tent </c1> and\n<c2>\nboat\n</c2> fit": ["tent", "boat"],
    "<C1>tent</C1>": ["tent"],
    "<c1></c1><c2> </c2>": ["", ""],
    "<c1>tent</c1><c2>bo": ["tent"],  # cut off
    "<c1>tent</c2><c2>boat</c2>": ["boat"],  # closed by another's tag
    "<c1><c2>boat</c2></c1>": ["boat"],  # one inside another
    "<c1>a</c1><c1>b</c1>": ["a", "b"],  # a number twice
    "<c7>a</c7>": ["a"],
    "1. tent\n2) boat, red\n\n3.": ["tent", "boat, red", ""],
    "Options:\n 1. tent\n10. boat": ["tent", "boat"],
    "1. tent <c1>boat</c1>": ["boat"],  # blocks win
    "<c1>never closed 1. tent": [],
    "tent, 2 boats": [],
    "": [],
}


@pytest.mark.parametrize("text", CASES)
def test_cases(text):
    assert [span.of(text) for span in candidate_spans(text)] == CASES[text]


@given(st.lists(st.text("ab, \n1.", max_size=8), max_size=5))
def test_what_was_written_is_found_again(candidates):
    text = written(candidates)
    assert [span.of(text) for span in candidate_spans(text)] == [c.strip() for c in candidates]


@given(st.text("<>/c12. \nab", max_size=40))
def test_spans_lie_in_order_within_any_text(text):
    spans = candidate_spans(text)
    assert all(0 <= span.start <= span.end <= len(text) for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_the_instruction_says_how_many_and_how():
    said = instruction(4)
    assert "exactly 4" in said
    assert "<c1>...</c1>" in said
    assert "</c4>" in said


def test_each_candidate_is_cut_for_itself_after_the_reasoning():
    rules = TextRules(max_phrases=2, num_candidates=2)
    text = "<think><c9>no</c9></think> <answer><c1>a, b, c</c1> <c2>d</c2></answer> <c3>e</c3>"
    assert [span.of(text) for span in rules.candidate_spans(text)] == ["a, b", "d"]
    assert rules.pieces(text) == rules.candidate_spans(text)
    assert rules.scored_span(text).of(text) == "<c1>a, b, c</c1> <c2>d</c2>"


@pytest.mark.parametrize("number", [-1, 17])
def test_impossible_numbers_are_refused(number):
    with pytest.raises(ValueError, match=f"num_candidates={number}"):
        TextRules(num_candidates=number)
