"""Every expression that reads foreign text takes time in proportion to it, whatever it holds."""

import time

import pytest

from rlcredit.commands.saved import RESOLVER
from rlcredit.tasks.published.cleaning import clean, contains_words, num_tokens, words_of
from rlcredit.tasks.published.hm_files import num_shown
from rlcredit.text.candidates import candidate_spans
from rlcredit.text.numerals import final_answer, number
from rlcredit.text.response import TextRules, segment_key
from rlcredit.text.segmenters import Phrases, Sentences, Windows
from rlcredit.text.words import words

SHORT, LONG = 1500, 6000
CASES = [
    *(
        (clean, unit)
        for unit in ("<!--", "-->", "<", "<b ", '<a x="', "<a x='\"", ' y="<a x=', "&#1")
    ),
    *((number, unit) for unit in (" ", "1 ", "1/", "1,", ".", "- ", "m ^ ", "1{,}", "\\,")),
    *((number, unit) for unit in ("\\frac{", "\\frac{1}", "\\text{")),
    *((final_answer, unit) for unit in ("\\boxed{", "\\boxed ", "####")),
    *((candidate_spans, unit) for unit in ("<c1>", "<c1", "<c1>x</c2>", "\n 1", "\n \t", "1")),
    *((Sentences(), unit) for unit in (9 * ".", "?!" * 5, ".x", " ")),
    *((Phrases(), unit) for unit in (",", " ", "a,")),
    *((Windows(), unit) for unit in ("a ", " ")),
    *((TextRules().scored_span, unit) for unit in ("<think>", "<answer>", " ", "<")),
    *((words_of, unit) for unit in ("a-", "a'-", "é")),
    *((rule, unit) for rule in (words, segment_key, num_tokens) for unit in ("é", "a ", "\u0301")),
    (lambda text: contains_words(text, text[1:]), "a "),
    (lambda text: num_shown(text.split(), 10**9), "a "),
    (RESOLVER.search, "${"),
]


def seconds(rule, text):
    taken = []
    for _ in range(2):
        start = time.process_time()
        rule(text)
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.parametrize(("rule", "unit"), CASES)
def test_four_times_the_text_takes_about_four_times_as_long(rule, unit):
    assert seconds(rule, unit * LONG) < 9 * max(seconds(rule, unit * SHORT), 2e-3)
