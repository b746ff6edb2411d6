"""Set tasks: the same prompts, of which each asks for K alternative search texts."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from rlcredit.tasks.teachers import HashedTeacher
from rlcredit.text.candidates import instruction, written
from rlcredit.types import Prompt

MAX_PHRASES = 4
"""Largest number of phrases of a candidate on generated data, where none is given."""
_ONE_TEXT = " inside <answer></answer>"
"""What the instruction of a single text says of its place."""
LENGTHS = (1, 2, 2, 3)
"""Phrases of a candidate in a demonstration, each entry as likely as the others."""


@dataclass(frozen=True, kw_only=True)
class SetTeacher:
    """Writes K demonstrations of the task's own teacher, each cut to a few phrases, as a set."""

    base: HashedTeacher
    num_candidates: int

    def content(self) -> Iterator[str]:
        """All that a demonstration depends on, for hashing."""
        yield f"sets of {self.num_candidates} of {LENGTHS} phrases"
        yield from self.base.content()

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        """One demonstration of K candidates."""
        lengths = torch.randint(len(LENGTHS), (self.num_candidates,), generator=generator)
        phrases = [self.base(prompt, generator).split(", ") for _ in lengths]
        return written(
            [
                ", ".join(own[: LENGTHS[length]])
                for own, length in zip(phrases, lengths.tolist(), strict=True)
            ]
        )


def asking_for_sets(prompts: tuple[Prompt, ...], num_candidates: int) -> tuple[Prompt, ...]:
    """The prompts with an instruction that says how many candidates to write, and how."""
    said = instruction(num_candidates)
    return tuple(
        replace(
            prompt,
            instruction=f"{prompt.instruction.replace(_ONE_TEXT, '')} {said}".strip(),
        )
        for prompt in prompts
    )
