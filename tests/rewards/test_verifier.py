"""Rewards by rule, and what several attempts at a problem come to."""

import re
from itertools import combinations

import numpy as np
import pytest

from rlcredit.rewards.solutions import distinct_solutions, mode, pass_at_k, width
from rlcredit.rewards.verifier import CountdownProblem, NumericProblem, Verifier
from rlcredit.types import Judgement, Problem, Prompt

MAKE_24 = CountdownProblem(numbers=(8, 3, 3, 8), target=24)


def prompt(problem):
    return Prompt(prompt_id="c0", text="", query="", relevance={}, problem=problem)


@pytest.mark.parametrize(
    ("text", "reward"),
    [
        ("8 / (3 - 8 / 3)", 1.0),  # passes through fractions
        ("8 * 3", 1.0),  # not every number is needed
        ("3 × 8", 1.0),
        ("8 + 8 + 8", 0.1),  # 8 is there twice only
        ("24", 0.1),
        ("8 + 3", 0.1),
        ("8 / (3 - 3)", 0.1),
        ("8 * 3 = 24", 0.0),
        ("the answer is 8 * 3", 0.0),
        ("", 0.0),
        ("-8 + 32", 0.0),
    ],
)
def test_right_wrong_and_malformed_expressions(text, reward):
    assert Verifier()([prompt(MAKE_24)], [text]).tolist() == pytest.approx([reward])


def test_numeric_answers():
    asked = prompt(NumericProblem(answer="1,200"))
    texts = ["so\n#### 1200", r"\boxed{\$1,200.00}", "#### 12", "1200", "#### none"]
    rewards = Verifier()([asked] * 5, texts).tolist()
    assert rewards == pytest.approx([1.0, 1.0, 0.1, 0.0, 0.0])


def test_the_figures_are_settings():
    rewards = Verifier(correct=2.0, well_formed=0.0, malformed=-1.0)
    texts = ["8*3", "8+3", "?"]
    assert rewards([prompt(MAKE_24)] * 3, texts).tolist() == [2, 0, -1]


@pytest.mark.parametrize(
    "figures",
    [
        {"correct": 0.1},
        {"well_formed": 1.0},
        {"malformed": 0.2},
        {"correct": float("nan")},
        {"correct": float("inf")},
    ],
)
def test_a_better_answer_must_earn_more(figures):
    asked = {"correct": 1.0, "well_formed": 0.1, "malformed": 0.0} | figures
    correct, *others = (f"reward.{name}={value}" for name, value in asked.items())
    with pytest.raises(ValueError, match=re.escape(f"{correct}, {' and '.join(others)}: ")):
        Verifier(**figures)


def test_a_prompt_without_a_problem_is_refused():
    search = Prompt(prompt_id="q1", text="", query="tent", relevance={"p": 3})
    with pytest.raises(ValueError, match="'q1' has no problem"):
        Verifier()([search], ["tent"])
    with pytest.raises(ValueError, match="1 prompts for 2 texts"):
        Verifier()([prompt(MAKE_24)], ["1", "2"])


def test_nothing_asked_is_nothing_earned():
    assert Verifier()([], []).shape == (0,)


def test_the_same_solution_in_other_words():
    judged = [MAKE_24.judge(t) for t in ("8*3", "3 * 8", "(3)*8", "8/(3-8/3)", "8+8", "8*")]
    assert distinct_solutions(judged) == 2
    story = NumericProblem(answer="7")
    judged = [story.judge(t) for t in ("3+4\n#### 7", "3+4  #### 7", "5+2 #### 7", "#### 8")]
    assert distinct_solutions(judged) == 2


def test_problems_keep_their_contract():
    for one in (MAKE_24, NumericProblem(answer="1")):
        assert isinstance(one, Problem)
        assert one.judge("\x00" * 1000) == Judgement(well_formed=False, correct=False)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_pass_at_k_is_the_share_of_samples_of_k_that_hold_a_correct_one(n):
    for c in range(n + 1):
        correct = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            drawn = [any(chosen) for chosen in combinations(correct, k)]
            assert pass_at_k(n, c, k) == pytest.approx(np.mean(drawn), abs=1e-12)


def test_pass_at_k_is_unbiased():
    """Its expectation over n samples is the probability that one of k fresh ones is correct."""
    p, n, k = 0.3, 10, 4
    counts = np.random.default_rng(0).binomial(n, p, size=200_000)
    table = np.array([pass_at_k(n, c, k) for c in range(n + 1)])
    assert table[counts].mean() == pytest.approx(1 - (1 - p) ** k, abs=2e-3)
    assert pass_at_k(512, 1, 256) == pytest.approx(0.5)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 0), (4, 1, 5), (4, 5, 1), (4, -1, 1)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(ValueError, match=f"pass@{k} of {n} samples"):
        pass_at_k(n, c, k)


def test_width_and_mode_are_of_problems_solved_in_two_ways_or_more():
    assert width([0, 1, 2, 5]) == 2
    assert mode([0, 1, 2, 5]) == 3.5
    assert width([0, 1]) == 0
    assert mode([0, 1]) == 0.0
