"""Runs of words: found where they stand, and nowhere else."""

from hypothesis import given
from hypothesis import strategies as st

from rlcredit.text.copying import RUN, WordRuns
from rlcredit.text.words import words

TEXTS = st.lists(st.sampled_from(["a", "b", "c", "B", "x-y"]), max_size=9).map(" ".join)


@given(documents=st.lists(TEXTS, max_size=4), text=TEXTS)
def test_a_word_is_copied_where_a_run_around_it_stands_in_one_document(documents, text):
    held = {
        tuple(split[at : at + RUN])
        for split in map(words, documents)
        for at in range(len(split) - RUN + 1)
    }
    written = words(text)
    expected = [
        any(
            tuple(written[at : at + RUN]) in held
            for at in range(max(0, place - RUN + 1), place + 1)
        )
        for place in range(len(written))
    ]
    assert list(WordRuns.of(documents).copied(text)) == expected


def test_a_run_does_not_reach_from_one_document_into_the_next():
    runs = WordRuns.of(["red wool", "hat"])
    assert not any(runs.copied("red wool hat"))
