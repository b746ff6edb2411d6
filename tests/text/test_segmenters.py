from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.text.base import Segmenter
from rlcredit.text.segmenters import Pattern, Phrases, Sentences, Windows

ALL = [
    Pattern(pattern=r"[^,;]+"),
    Phrases(),
    Phrases(delimiter="; "),
    Sentences(),
    Windows(),
    Windows(num_words=1),
]


def pieces(segmenter, text):
    return [span.of(text) for span in segmenter(text)]


@pytest.mark.parametrize(
    ("segmenter", "text", "expected"),
    [
        (Phrases(), "red, big tent ,\nblue", ["red", "big tent", "blue"]),
        (Phrases(), ",, , a,", ["a"]),
        (Phrases(), "no comma", ["no comma"]),
        (Phrases(), "", []),
        (Phrases(delimiter="|"), "a, b | c", ["a, b", "c"]),
        (Phrases(delimiter="."), "a.b", ["a", "b"]),
        (Sentences(), "Red tent. Big! Really?! yes", ["Red tent.", "Big!", "Really?!", "yes"]),
        (Sentences(), "3.5 kg. one\ntwo", ["3.5 kg.", "one", "two"]),
        (Sentences(), " \n ", []),
        (Sentences(), "赤い。軽い! よい", ["赤い。", "軽い!", "よい"]),
        (Sentences(), "यह लाल है। हल्का", ["यह लाल है।", "हल्का"]),
        (Pattern(pattern=r"\w+ tent"), "red tent, big tent", ["red tent", "big tent"]),
        (Pattern(pattern=r"[^,]+"), " a , ,b", ["a", "b"]),
        (Windows(num_words=2), " a  b c ", ["a  b", "c"]),
        (Windows(num_words=2), "", []),
    ],
)
def test_segments_of_hand_made_texts(segmenter, text, expected):
    assert pieces(segmenter, text) == expected


@pytest.mark.parametrize("segmenter", ALL, ids=repr)
@given(text=st.text(alphabet="ab ,;.!\né", max_size=30))
def test_spans_are_disjoint_in_order_stripped_and_not_empty(segmenter, text):
    assert isinstance(segmenter, Segmenter)
    spans = segmenter(text)
    assert all(span.of(text) and span.of(text) == span.of(text).strip() for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


@pytest.mark.parametrize("segmenter", ALL, ids=repr)
@given(
    text=st.text(alphabet="ab ,;.\n", max_size=20), more=st.text(alphabet="ab ,;.\n", max_size=8)
)
def test_segmenters_are_causal_all_but_the_last_segment_stay(segmenter, text, more):
    spans = segmenter(text)
    assert segmenter(text + more)[: max(len(spans) - 1, 0)] == spans[:-1]


@pytest.mark.parametrize("segmenter", [Phrases(), Phrases(delimiter="; ")], ids=repr)
@given(text=st.text(alphabet="ab ,;", max_size=20))
def test_no_phrase_holds_its_delimiter_and_nothing_else_is_lost(segmenter, text):
    found = pieces(segmenter, text)
    assert all(segmenter.delimiter not in piece for piece in found)
    assert found == [p.strip() for p in text.split(segmenter.delimiter) if p.strip()]


def test_settings_that_cut_nothing_are_refused():
    with pytest.raises(ValueError, match="delimiter=''"):
        Phrases(delimiter="")
    with pytest.raises(ValueError, match="num_words=0"):
        Windows(num_words=0)


@pytest.mark.parametrize(
    ("pattern", "says"), [("(", "is no regular expression"), ("a*", "matches the empty text")]
)
def test_a_pattern_that_cuts_nothing_out_is_refused(pattern, says):
    with pytest.raises(ValueError, match=says):
        Pattern(pattern=pattern)
