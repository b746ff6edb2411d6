"""Countdown: make a target from a few numbers, the task of arXiv:2602.01062 and of LPO's paper."""

from dataclasses import dataclass, field

from rlcredit.rewards.verifier import CountdownProblem
from rlcredit.tasks.base import Task
from rlcredit.tasks.generated.countdown_problems import VERSION, GuessingTeacher, Made, generate
from rlcredit.tasks.instructions import check_instruction
from rlcredit.tasks.settings import (
    SPLITS,
    Source,
    VerifiedParts,
    finish_verified,
)
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

INSTRUCTION = (
    "Write one arithmetic expression that equals the target. Use each of the numbers at most once, "
    "the signs + - * / and parentheses. Give the expression alone inside <answer></answer>."
)


@dataclass(frozen=True, kw_only=True)
class Countdown:
    """Generated problems, each solvable by an expression of all its numbers.

    Raises:
        ValueError: If a number is out of its range.
    """

    seed: int = 0
    """Seed of the problems. Not the run's seed."""
    sizes: list[int] = field(default_factory=lambda: [3])
    """How many numbers a problem has, each entry as likely as the others."""
    largest_number: int = 10
    """Largest number that a problem gives."""
    largest_target: int = 100
    """Largest number that is asked for."""
    solved: float = 0.4
    """Share of a teacher's demonstrations that solves the problem; the others are guesses."""
    instruction: str | None = None
    """What a policy is asked instead of the task's own instruction, with ``{query}`` for what it is
    asked about; None: the task's own."""
    max_train: int = 1200
    """Training problems."""
    max_validation: int = 100
    """Validation problems."""
    max_test: int = 200
    """Test problems."""

    def __post_init__(self) -> None:
        """Check what no generator could make sense of."""
        check_instruction(self.instruction)
        if not self.sizes or not all(2 <= size <= 6 for size in self.sizes):
            raise ValueError(f"dataset.sizes={self.sizes}: a problem has 2 to 6 numbers")
        limits = ("largest_number", "largest_target", "max_train", "max_validation", "max_test")
        for name in limits:
            if getattr(self, name) < 1:
                raise ValueError(f"dataset.{name}={getattr(self, name)} is below 1")
        if not 0 <= self.solved <= 1:
            raise ValueError(f"dataset.solved={self.solved} is not in [0, 1]")

    @property
    def candidates(self) -> int:
        """A response is one answer."""
        return 0

    @property
    def reading(self) -> int:
        """Nothing is read."""
        return 1

    def content(self) -> tuple[str, ...]:
        """The generator's version."""
        return (VERSION,)

    def load(self) -> Task:
        """Generate the problems.

        Raises:
            ValueError: If the limits do not leave so many problems.
        """
        made = {split: self._made(split) for split in SPLITS}
        prompts = {
            split: tuple(_prompt(f"{split}-{i}", one) for i, one in enumerate(problems))
            for split, problems in made.items()
        }
        known = zip(prompts["train"], made["train"], strict=True)
        parts = VerifiedParts(
            train=prompts["train"],
            validation=prompts["validation"],
            test=prompts["test"],
            teacher=GuessingTeacher(
                problems={prompt.prompt_id: one for prompt, one in known}, solved=self.solved
            ),
            counts={},
        )
        return finish_verified(
            "countdown", Source.generated, parts, TextRules(), instruction=self.instruction
        )

    def _made(self, split: str) -> list[Made]:
        return generate(
            split,
            getattr(self, f"max_{split}"),
            seed=self.seed,
            sizes=tuple(self.sizes),
            largest_number=self.largest_number,
            largest_target=self.largest_target,
        )


def _prompt(prompt_id: str, made: Made) -> Prompt:
    return Prompt(
        prompt_id=prompt_id,
        text=f"Make {made.target} from {' '.join(map(str, made.numbers))}",
        query="",
        relevance={},
        instruction=INSTRUCTION,
        problem=CountdownProblem(numbers=made.numbers, target=made.target),
    )
