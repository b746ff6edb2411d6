import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcredit.text.response import Compose, TextRules, opened_thought, segment_key
from rlcredit.text.words import words

TASK = TextRules(max_phrases=8, max_words=3, unique=True)


def scored(response, **rules):
    return TextRules(**rules).scored_span(response).of(response)


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("  red tent \n", "red tent"),
        ("", ""),
        (" \n ", ""),
        ("<answer>red tent</answer>", "red tent"),
        ("so <ANSWER>\n red,\ntent </Answer> done", "red,\ntent"),
        ("<answer>a</answer><answer>b</answer>", "a"),
        ("<answer></answer>", ""),
        ("I say <answer>red, te", "red, te"),
        ("<think>blue <answer>no</answer></think> red", "red"),
        ("<think>x\ny</think>\n<answer>red</answer>", "red"),
        (" <think>never ends, red", ""),
        ("red <think>tent</think>", "red <think>tent</think>"),
        ("red</answer>", "red</answer>"),
        ("maybe a boat, a stove</think>tent, red", "tent, red"),
        ("a boat</think>\n<answer>tent</answer>", "tent"),
        ("</think>tent</think>", "tent</think>"),
        ("red <think>boat</think> tent", "red <think>boat</think> tent"),
    ],
)
def test_scored_text_is_the_answer_or_else_all_but_the_leading_thought(response, text):
    assert scored(response) == text


@pytest.mark.parametrize(
    ("response", "limit", "text"),
    [
        ("a, b, c", 2, "a, b"),
        ("a, b, c", 3, "a, b, c"),
        ("a, b, c", 4, "a, b, c"),
        (",,a, b", 3, ",,a"),
        (", b", 1, ""),
        ("<answer> a , b , c</answer>", 2, "a , b"),
        ("a b c d e, f, g", 2, "a b c d e, f"),
    ],
)
def test_scored_text_ends_after_max_phrases_whatever_they_are_worth(response, limit, text):
    assert scored(response, max_phrases=limit) == text


KNOWN = TextRules(known_words=("boat", "for", "red", "tent"), new_words=True)


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("red tent, Boat", "red tent, Boat"),
        ("red tentZ, boat", "boat"),
        ("red tent\ufffd, boat", "boat"),
        ("red\x07 tent, boat", "boat"),
        ("\ufffd, !!, \x00, ", ""),
        ("red\u00a0tent for, boat", "red tent for, boat"),
        ("red tent, tent, TENT red, red boat", "red tent, red boat"),
        ("tent, tent!, ten\u00adt, boat", "tent, boat"),
        ("blue tent, tent", "tent"),  # what does not count has said nothing
    ],
)
def test_phrases_of_known_and_of_new_words_count(text, counted):
    assert KNOWN.search_text(text, query="") == counted


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ("a, b", "a, b"),
        ("a, b, c", ""),
        ("a, b,", ""),
        ("<answer>a, b, c</answer>", ""),
        ("<answer>a, b</answer>, c", "a, b"),
    ],
)
def test_an_overlong_text_is_void_where_the_task_says_so(response, text):
    assert scored(response, max_phrases=2, void_overlong=True) == text
    sets = TextRules(max_phrases=1, num_candidates=2, void_overlong=True)
    spans = sets.candidate_spans("<c1>a, b</c1><c2>c</c2>")
    assert [span.of("<c1>a, b</c1><c2>c</c2>") for span in spans] == ["", "c"]


def test_whether_a_segment_plays_depends_on_its_words_and_not_on_what_was_said_before():
    said = ["red tent", "tent", "tentz", "tent\ufffd", "!!", ""]
    assert [KNOWN.is_valid(each) for each in said] == [True, True, False, False, False, False]
    assert TextRules().is_valid("tent\ufffd")


@given(
    st.lists(st.sampled_from(["red", "red tent", "tent", "boat", "blue", "red boat"]), max_size=6)
)
def test_phrases_of_old_words_change_no_word_of_a_text(phrases):
    text = ", ".join(phrases)
    without = TextRules(known_words=KNOWN.known_words).search_text(text, query="")
    counted = KNOWN.search_text(text, query="")
    assert set(words(counted)) == set(words(without))
    assert KNOWN.search_text(counted, query="") == counted


def test_a_candidate_within_a_thought_that_the_prompt_opened_is_none():
    rules = TextRules(num_candidates=2)
    response = "or <c1>boat</c1></think><c1>tent</c1> <c2>lamp</c2>"
    assert [span.of(response) for span in rules.candidate_spans(response)] == ["tent", "lamp"]


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("User: a tent. Assistant: <think>\n", "<think>\n"),
        ("<THINK>", "<THINK>"),
        ("Assistant: <think>\n\n</think>\n\n", ""),
        ("what does <think> mean? Assistant: ", ""),
        ("", ""),
    ],
)
def test_a_prompt_opens_a_thought_where_it_ends_in_the_tag(prompt, opened):
    assert opened_thought(prompt) == opened


PIECES = ["a", "b", " ", ",", "\n", "é", "<answer>", "</answer>", "<think>", "</think>"]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join), st.none() | st.integers(1, 4))
def test_scored_span_lies_in_the_response_and_has_no_outer_space(response, limit):
    span = TextRules(max_phrases=limit).scored_span(response)
    assert 0 <= span.start <= span.end <= len(response)
    assert span.of(response) == span.of(response).strip()
    assert limit is None or span.of(response).count(",") < limit


def test_a_valid_phrase_has_one_to_max_words_words():
    rules = TextRules(max_words=3)
    words = ["", "  ", "a", " a  b c ", "a b c d"]
    assert [rules.is_valid(w) for w in words] == [False, False, True, True, False]
    assert TextRules().is_valid("a b c d e f")
    assert not TextRules().is_valid(" ")


@pytest.mark.parametrize(
    ("text", "searched"),
    [
        ("red, tent", "red, tent"),
        (" red ,tent,", "red, tent"),
        ("one two three four, tent", "tent"),
        ("one two three four", ""),
        ("red, tent, RED, tent ,  big", "red, tent, big"),
        ("big  red, big red", "big red"),
        (",, ,", ""),
    ],
)
def test_search_text_keeps_first_valid_phrases_only(text, searched):
    assert TASK.search_text(text, query="q") == searched


def test_search_text_without_rules_only_normalises_white_space():
    assert TextRules().search_text(" a b c d e,\n a,, a ", query="q") == "a b c d e, a,, a"


def test_unique_alone_keeps_long_phrases():
    assert TextRules(unique=True).search_text("a b c d, a b c d", query="") == "a b c d"


def test_expand_puts_the_query_in_front():
    rules = TextRules(max_words=3, compose=Compose.expand)
    assert rules.search_text("red, a b c d", query="tent for two") == "tent for two red"
    assert rules.search_text("", query="tent for two") == "tent for two"
    assert TASK.search_text("", query="tent for two") == ""


@settings(deadline=None)
@given(st.lists(st.text(alphabet="aB \t,", max_size=6), max_size=8))
def test_search_text_of_a_searched_text_is_itself(phrases):
    once = TASK.search_text(",".join(phrases), query="")
    assert TASK.search_text(once, query="") == once
    keys = [segment_key(p) for p in once.split(",")]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("rules", [{"max_phrases": 0}, {"max_words": 0}, {"max_words": -1}])
def test_a_limit_below_one_is_refused(rules):
    (name,) = rules
    with pytest.raises(ValueError, match=f"{name}=.*at least 1"):
        TextRules(**rules)
