"""Responses written by hand, scored with rewards that can be computed by hand."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.types import Prompt, Rollouts

DOUBLE = torch.float64


def prompt(name: str) -> Prompt:
    return Prompt(prompt_id=name, text=f"{name} for two", query=name, relevance={})


def written(*groups: Sequence[str]) -> Rollouts:
    """One token per character, and an end token; prompts are named p0, p1, ..."""
    length = 1 + max(len(text) for group in groups for text in group)
    shape = (len(groups), len(groups[0]), length)
    mask = torch.zeros(shape, dtype=torch.bool)
    spans = torch.zeros(*shape, 2, dtype=torch.long)
    for p, group in enumerate(groups):
        for g, text in enumerate(group):
            mask[p, g, : len(text) + 1] = True
            for t in range(len(text) + 1):
                spans[p, g, t] = torch.tensor([t, min(t + 1, len(text))])
    return Rollouts(
        prompts=tuple(prompt(f"p{index}") for index in range(len(groups))),
        texts=tuple(tuple(group) for group in groups),
        prompt_ids=torch.ones(len(groups), 1, dtype=torch.long),
        prompt_mask=torch.ones(len(groups), 1, dtype=torch.bool),
        response_ids=torch.ones(shape, dtype=torch.long),
        response_mask=mask,
        char_spans=spans,
        rollout_logprobs=torch.zeros(shape, dtype=DOUBLE),
        finished=torch.ones(shape[:2], dtype=torch.bool),
    )


class Letters:
    """The number of different letters of a text, over 100. Remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[tuple[str, str]]] = []

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        self.calls.append([(p.prompt_id, text) for p, text in zip(prompts, texts, strict=True)])
        return torch.tensor([letters(text) for text in texts], dtype=DOUBLE)


def letters(text: str) -> float:
    return len({letter for letter in text if letter.isalpha()}) / 100
