"""Countdown problems, a few numbers and a target that can be made from them, and their teacher."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from rlcredit.tasks.splits import share_of
from rlcredit.text.expressions import parse, value
from rlcredit.types import Prompt, Randomness

VERSION = "countdown 1"
"""Raised with every change that makes other problems from the same settings."""
SIGNS = "+++---**/"
"""Each entry as likely as the others; divisions seldom come out even."""
SHARES = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
"""Shares of all problems in each split, by a hash of what they are: no limit moves a problem to
another split."""

_PATIENCE = 400
"""Draws for each problem that is wanted."""
_BLOCK = 32

Key: TypeAlias = tuple[tuple[int, ...], int]
"""Numbers in ascending order, and target: two problems of one key are the same."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A problem, with an expression that solves it."""

    numbers: tuple[int, ...]
    """Numbers in the order in which the prompt names them."""
    target: int
    solution: str

    @property
    def key(self) -> Key:
        """What makes it the problem it is."""
        return tuple(sorted(self.numbers)), self.target


def generate(
    split: str,
    count: int,
    *,
    seed: int,
    sizes: tuple[int, ...],
    largest_number: int,
    largest_target: int,
) -> list[Made]:
    """Different problems of one split, each solvable: its target is what a random expression makes.

    The expression uses every number. A target that is one of the numbers is left out, since that
    number alone would solve it. Splits share no problem; they may share numbers, or targets.

    Args:
        split: train, validation or test.
        count: Of the problems; a larger count continues a smaller one.
        seed: Of the data.
        sizes: How many numbers a problem has, each entry as likely as the others.
        largest_number: Numbers are 1 to this.
        largest_target: Targets are 1 to this.

    Raises:
        ValueError: If the limits do not leave so many problems.
    """
    low, high = SHARES[split]
    found: dict[Key, Made] = {}
    stream = _stream(Randomness(seed=seed, step=0).generator(f"countdown {split}"))
    for _ in range(_PATIENCE * count):
        if len(found) == count:
            break
        made = _draw(stream, sizes, largest_number)
        if made is None or not 1 <= made.target <= largest_target or made.target in made.numbers:
            continue
        if low <= share_of(repr(made.key), purpose="countdown split") < high:
            found.setdefault(made.key, made)
    if len(found) < count:
        raise ValueError(
            f"only {len(found)} different {split} problems of {' or '.join(map(str, sizes))} "
            f"numbers up to {largest_number} with targets up to {largest_target} were found, and "
            f"{count} are wanted; raise dataset.largest_number or dataset.largest_target, or lower "
            f"dataset.max_{split}"
        )
    return list(found.values())


def _stream(generator: torch.Generator) -> Iterator[float]:
    """Numbers drawn from [0, 1), without end."""
    while True:
        yield from torch.rand(_BLOCK, generator=generator, dtype=torch.float64).tolist()


def _draw(stream: Iterator[float], sizes: tuple[int, ...], largest_number: int) -> Made | None:
    """A problem; None where the expression makes no whole number."""
    size = sizes[_below(len(sizes), stream)]
    numbers = [1 + _below(largest_number, stream) for _ in range(size)]
    solution = random_expression(_shuffled(numbers, stream), stream)
    made = value(parse(solution))
    if made is None or made.denominator != 1:
        return None
    return Made(numbers=tuple(numbers), target=int(made), solution=solution)


def random_expression(numbers: Sequence[int], stream: Iterator[float]) -> str:
    """The numbers in their order, random signs between them, and a random grouping.

    Signs and brackets stand between blanks. Brackets that change nothing are not written.

    Args:
        numbers: One or more.
        stream: Numbers drawn from [0, 1).
    """
    parts = [(str(number), "") for number in numbers]
    while len(parts) > 1:
        at = _below(len(parts) - 1, stream)
        sign = SIGNS[_below(len(SIGNS), stream)]
        (left, left_sign), (right, right_sign) = parts[at], parts[at + 1]
        if left_sign in _LOOSER[sign][0]:
            left = f"( {left} )"
        if right_sign in _LOOSER[sign][1]:
            right = f"( {right} )"
        parts[at : at + 2] = [(f"{left} {sign} {right}", sign)]
    return parts[0][0]


_LOOSER: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "+": ((), ()),
    "-": ((), ("+", "-")),
    "*": (("+", "-"), ("+", "-")),
    "/": (("+", "-"), ("+", "-", "*", "/")),
}
"""The signs whose expressions need brackets on the left and on the right of a sign."""


def _below(limit: int, stream: Iterator[float]) -> int:
    return int(next(stream) * limit)


def _shuffled(numbers: Sequence[int], stream: Iterator[float]) -> list[int]:
    return [number for _, number in sorted((next(stream), number) for number in numbers)]


@dataclass(frozen=True, kw_only=True)
class GuessingTeacher:
    """Writes a well-formed expression of all numbers; its value is mostly wrong.

    A share of the demonstrations are the known solution, so that a policy learns that there is
    something to look for.
    """

    problems: Mapping[str, Made]
    """prompt_id of each training prompt -> its problem."""
    solved: float
    """Share of demonstrations that are the solution."""

    def content(self) -> Iterator[str]:
        """All that a demonstration depends on, for hashing."""
        yield f"solves {self.solved}"
        for prompt_id, problem in self.problems.items():
            yield f"{prompt_id} {problem!r}"

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """One demonstration.

        Raises:
            ValueError: If the prompt is not a training prompt.
        """
        problem = self.problems.get(prompt.prompt_id)
        if problem is None:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} is not a training prompt, and demonstrations are "
                "written for training prompts only"
            )
        stream = _stream(generator)
        if next(stream) < self.solved:
            return problem.solution
        return random_expression(_shuffled(problem.numbers, stream), stream)
