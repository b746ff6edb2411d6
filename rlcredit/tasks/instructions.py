"""What a policy is asked, where a person words it otherwise than the task does."""

from dataclasses import replace

from rlcredit.types import Prompt

PLACE = "{query}"
"""Where an instruction has the query: the history of a customer, the problem to solve."""


def check_instruction(instruction: str | None) -> None:
    """Refuse an instruction without a place for the query.

    Raises:
        ValueError: If there is none.
    """
    if instruction is not None and PLACE not in instruction:
        raise ValueError(
            f"dataset.instruction={instruction!r} has no {PLACE}, so every prompt would be the "
            f"same; write {PLACE} where the query belongs, or null for the task's own instruction"
        )


def asking(prompts: tuple[Prompt, ...], instruction: str | None) -> tuple[Prompt, ...]:
    """The prompts with the instruction as the user's message and no system message.

    >>> prompt = Prompt(prompt_id="q", text="tent", query="tent", relevance={}, instruction="Help.")
    >>> asking((prompt,), "Search words for {query}:")[0].text
    'Search words for tent:'
    """
    if instruction is None:
        return prompts
    return tuple(
        replace(prompt, text=instruction.replace(PLACE, prompt.text), instruction="")
        for prompt in prompts
    )
