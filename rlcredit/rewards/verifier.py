"""Rewards by rule: an answer is correct, well-formed and wrong, or no answer at all."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.rewards.base import scores_parts
from rlcredit.text.expressions import ExpressionError, canonical, numbers, parse, value
from rlcredit.text.numerals import final_answer, number, same
from rlcredit.text.response import segment_key
from rlcredit.types import Judgement, Problem, Prompt


@dataclass(frozen=True, kw_only=True)
class CountdownProblem:
    """Make ``target`` from ``numbers``, each used at most once, by + - * / and parentheses.

    The task of TinyZero, on which SetPO (arXiv:2602.01062, table 3) and LPO were shown; its own
    rule is that every number is used.
    """

    numbers: tuple[int, ...]
    target: int

    def judge(self, text: str) -> Judgement:
        """Well-formed is what parses as an expression, whatever numbers it uses."""
        try:
            expression = parse(text)
        except ExpressionError:
            return Judgement(well_formed=False, correct=False)
        allowed = numbers(expression) <= Counter(self.numbers)
        return Judgement(
            well_formed=True,
            correct=allowed and value(expression) == Fraction(self.target),
            solution=canonical(expression),
        )


@dataclass(frozen=True, kw_only=True)
class NumericProblem:
    """A question whose answer is one number (GSM8K, arXiv:2110.14168)."""

    answer: str
    """The true answer as it is published: ``1,200``."""

    def judge(self, text: str) -> Judgement:
        r"""Well-formed is a marked answer (``\boxed{}`` or ``####``) that holds one number.

        Solutions are the same where the whole texts are, case and spacing aside.
        """
        marked = final_answer(text)
        if marked is None or number(marked) is None:
            return Judgement(well_formed=False, correct=False)
        return Judgement(
            well_formed=True, correct=same(marked, self.answer), solution=segment_key(text)
        )


@dataclass(frozen=True, kw_only=True)
class TextProblem:
    """A question whose answer is one text."""

    answer: str

    def judge(self, text: str) -> Judgement:
        """Well-formed is any text; case and spaces aside, the right one is the answer."""
        found = segment_key(text)
        return Judgement(
            well_formed=bool(found), correct=found == segment_key(self.answer), solution=found
        )


@dataclass(frozen=True, kw_only=True)
class Verifier:
    """A :class:`Reward` by rule: 1 for a correct answer, 0.1 for a well-formed one, 0 for others.

    The three figures are those of the Countdown runs of arXiv:2602.01062.

    Raises:
        ValueError: If a better answer would not earn more, or a figure is not finite.
    """

    correct: float = 1.0
    """Reward of a correct answer."""
    well_formed: float = 0.1
    """Reward of an answer of the asked form that is wrong."""
    malformed: float = 0.0
    """Reward of what is no answer at all."""

    def __post_init__(self) -> None:
        """Check the order of the figures."""
        figures = (self.correct, self.well_formed, self.malformed)
        if not (all(map(math.isfinite, figures)) and figures[0] > figures[1] >= figures[2]):
            raise ValueError(
                f"reward.correct={figures[0]}, reward.well_formed={figures[1]} and "
                f"reward.malformed={figures[2]}: the first must be above the second, and that no "
                "less than the third"
            )

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The reward of each text for the prompt beside it, in float32.

        Raises:
            ValueError: If the two lengths differ, or a prompt has nothing to verify.
        """
        if len(prompts) != len(texts):
            raise ValueError(f"{len(prompts)} prompts for {len(texts)} texts; a reward needs pairs")
        judged = [problem(p).judge(text) for p, text in zip(prompts, texts, strict=True)]
        return torch.tensor([self._reward(judgement) for judgement in judged], dtype=torch.float32)

    def _reward(self, judgement: Judgement) -> float:
        if judgement.correct:
            return self.correct
        return self.well_formed if judgement.well_formed else self.malformed


@scores_parts.register
def _(reward: Verifier) -> bool:
    """An answer with a part left out is another answer, or none."""
    del reward
    return False


def problem(prompt: Prompt) -> Problem:
    """What a prompt asks to be solved.

    Raises:
        ValueError: If there is nothing to verify.
    """
    if prompt.problem is None:
        raise ValueError(
            f"prompt {prompt.prompt_id!r} has no problem whose answers could be verified; use a "
            "reward of search (reward=ndcg), or dataset=countdown or gsm8k"
        )
    return prompt.problem
