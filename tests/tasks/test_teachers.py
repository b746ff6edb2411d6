from collections import Counter

import pytest
import torch

from rlcredit.tasks.teachers import (
    PhraseSource,
    PhraseTeacher,
    canonical,
    confused_opening,
    confused_sources,
)
from rlcredit.types import Prompt


def prompt(prompt_id):
    return Prompt(prompt_id=prompt_id, text="", query="", relevance={})


def demonstrations(sources, num=4000):
    teacher = PhraseTeacher(sources={"q": sources})
    generator = torch.Generator().manual_seed(0)
    return [teacher(prompt("q"), generator).split(", ") for _ in range(num)]


def entries(letter, num=40):
    return tuple(f"{letter}{k}" for k in range(num))


def test_a_demonstration_has_four_to_eight_different_phrases_six_and_a_half_on_average():
    lists = demonstrations((PhraseSource(weight=1.0, phrases=entries("a")),))
    lengths = [len(phrases) for phrases in lists]
    assert (min(lengths), max(lengths)) == (4, 8)
    assert sum(lengths) / len(lengths) == pytest.approx(6.5, abs=0.1)
    assert all(len(set(phrases)) == len(phrases) for phrases in lists)


def test_sources_are_used_in_proportion_to_their_weights():
    lists = demonstrations(
        (
            PhraseSource(weight=3.0, phrases=entries("a", 4000)),
            PhraseSource(weight=1.0, phrases=entries("b", 4000)),
            PhraseSource(weight=5.0, phrases=()),
        )
    )
    counts = Counter(phrase[0] for phrases in lists for phrase in phrases)
    assert counts["a"] / counts.total() == pytest.approx(0.75, abs=0.02)


def test_a_confused_teacher_is_as_often_mistaken_as_right():
    sources = confused_sources(
        truth=entries("a", 4000),
        mistaken=entries("b", 4000),
        generic=tuple(f"c{k}" for k in range(4000)),
        anything=tuple(f"d{k}" for k in range(4000)),
    )
    counts = Counter(phrase[0] for phrases in demonstrations(sources) for phrase in phrases)
    assert counts["a"] / counts["b"] == pytest.approx(1, abs=0.1)
    assert counts["a"] / counts["c"] == pytest.approx(3, abs=0.4)
    assert counts["a"] / counts["d"] == pytest.approx(1, abs=0.1)


def test_three_demonstrations_in_ten_open_with_the_right_topic_and_three_with_the_wrong_one():
    teacher = PhraseTeacher(
        sources={"q": (PhraseSource(weight=1.0, phrases=entries("a")),)},
        openings={"q": confused_opening("right", "wrong")},
    )
    generator = torch.Generator().manual_seed(0)
    lists = [teacher(prompt("q"), generator).split(", ") for _ in range(4000)]
    first = Counter(phrases[0] for phrases in lists)
    assert first["right"] / len(lists) == pytest.approx(0.3, abs=0.025)
    assert first["wrong"] / len(lists) == pytest.approx(0.3, abs=0.025)
    assert not {"right", "wrong"} & {phrase for phrases in lists for phrase in phrases[1:]}
    assert {len(phrases) for phrases in lists} == {4, 5, 6, 7, 8}


def test_only_canonical_wordings_are_taught():
    assert canonical({"use": ("one", "uno"), "style": ("two", "due")}) == ("one", "two")


def test_few_phrases_give_a_short_demonstration_and_none_an_empty_one():
    assert set(
        map(len, demonstrations((PhraseSource(weight=1.0, phrases=entries("a", 2)),), 50))
    ) == {2}
    assert demonstrations((PhraseSource(weight=1.0, phrases=()),), 1) == [[""]]


def test_a_prompt_that_is_not_for_training_is_refused():
    teacher = PhraseTeacher(sources={"q": ()})
    with pytest.raises(ValueError, match="'other' is not a training prompt"):
        teacher(prompt("other"), torch.Generator())
