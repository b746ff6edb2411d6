"""Countdown problems: solvable, different, split by what they are; their teacher mostly guesses."""

from collections import Counter

import pytest
import torch

from rlcredit.rewards.verifier import CountdownProblem
from rlcredit.tasks.generated.countdown_problems import (
    SHARES,
    GuessingTeacher,
    generate,
    random_expression,
)
from rlcredit.text.expressions import numbers, parse
from rlcredit.types import Prompt, Randomness

LIMITS = {"sizes": (3, 4), "largest_number": 12, "largest_target": 100}


def draws(index):
    generator = Randomness(seed=0, step=0).generator("x", index)
    return iter(torch.rand(9, generator=generator).tolist())


def made(split, count=60, seed=0, **limits):
    return generate(split, count, seed=seed, **(LIMITS | limits))


def test_every_problem_is_solvable_by_the_expression_it_was_made_of():
    for problem in made("train"):
        asked = CountdownProblem(numbers=problem.numbers, target=problem.target)
        assert asked.judge(problem.solution).correct
        assert sorted(numbers(parse(problem.solution)).elements()) == sorted(problem.numbers)
        assert problem.target not in problem.numbers
        assert 1 <= problem.target <= 100
        assert max(problem.numbers) <= 12
    assert {len(problem.numbers) for problem in made("train")} == {3, 4}


def test_splits_share_no_problem_whatever_the_order_of_its_numbers():
    keys = {split: [problem.key for problem in made(split)] for split in SHARES}
    for split, own in keys.items():
        assert len(set(own)) == 60
        for other in keys.keys() - {split}:
            assert not set(own) & set(keys[other])


def test_the_seed_makes_the_problems_and_a_larger_count_continues_a_smaller_one():
    assert made("test") == made("test")
    assert made("test", 20) == made("test")[:20]
    assert made("test", seed=1) != made("test")


def test_limits_that_leave_too_few_problems_are_refused():
    with pytest.raises(ValueError, match=r"only \d+ different test problems of 3 numbers up to 1"):
        made("test", 8, sizes=(3,), largest_number=1)


def test_random_expressions_use_every_number_once_and_every_sign():
    seen = Counter()
    for index in range(400):
        text = random_expression([2, 3, 5], draws(index))
        assert sorted(numbers(parse(text)).elements()) == [2, 3, 5]
        seen["(" in text] += 1
        seen.update(set("+-*/") & set(text))
    assert min(seen.values()) > 50  # every sign, with brackets and without
    assert random_expression([7], draws(0)) == "7"


def test_demonstrations_are_well_formed_and_mostly_wrong():
    problems = {f"train-{i}": problem for i, problem in enumerate(made("train"))}
    teacher = GuessingTeacher(problems=problems, solved=0.2)
    judged = []
    for index, (prompt_id, problem) in enumerate(problems.items()):
        prompt = Prompt(prompt_id=prompt_id, text="", query="", relevance={})
        text = teacher(prompt, Randomness(seed=0, step=0).generator("teach", index))
        asked = CountdownProblem(numbers=problem.numbers, target=problem.target)
        judged.append(asked.judge(text))
    assert all(each.well_formed for each in judged)
    assert 0.1 < sum(each.correct for each in judged) / len(judged) < 0.4
    with pytest.raises(ValueError, match="'test-0' is not a training prompt"):
        teacher(
            Prompt(prompt_id="test-0", text="", query="", relevance={}),
            Randomness(seed=0, step=0).generator("teach"),
        )
