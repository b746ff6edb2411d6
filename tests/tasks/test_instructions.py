"""What a policy is asked, where a person words it."""

import pytest

from rlcredit.tasks import ESCI, Countdown
from rlcredit.tasks.sets import asking_for_sets


def test_the_query_stands_in_the_instruction_and_nowhere_else():
    plain, asked = ESCI().load(), ESCI(instruction="Words for {query}, please.").load()
    assert [p.text for p in asked.test] == [f"Words for {p.text}, please." for p in plain.test]
    assert {p.instruction for p in asked.train} == {""}
    assert [p.query for p in asked.test] == [p.query for p in plain.test]
    assert asked.digest != plain.digest
    assert asked.rules == plain.rules, "words of an instruction are no words of the task"


def test_a_set_is_still_asked_for():
    prompts = ESCI(instruction="Words for {query}").load().train[:2]
    (first, _) = asking_for_sets(prompts, 3)
    assert first.instruction.startswith("Offer exactly 3 alternatives")
    assert (
        ESCI(instruction="{query}", candidates=3).load().train[0].instruction == first.instruction
    )


def test_problems_are_asked_so_too():
    plain, asked = Countdown().load(), Countdown(instruction="Solve: {query}").load()
    assert asked.test[0].text == f"Solve: {plain.test[0].text}"
    assert asked.test[0].problem == plain.test[0].problem


@pytest.mark.parametrize("dataset", [ESCI, Countdown])
def test_an_instruction_without_a_place_for_the_query_is_refused(dataset):
    with pytest.raises(ValueError, match=r"has no \{query\}, so every prompt would be the same"):
        dataset(instruction="Write search words.")
