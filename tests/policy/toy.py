"""A small task of made-up words, for tests of policies and rollouts."""

from dataclasses import dataclass

import torch

from rlcredit.data.base import SearchTask
from rlcredit.retrieval.base import Documents
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

NOUNS = ("tent", "lamp", "boots", "kettle", "backpack", "chair")
WHO = ("my father", "a long winter hike", "two", "the office", "small children")
WORDS = ("red", "light", "waterproof", "for winter", "soft", "steel", "quiet", "very warm")


def toy_prompts() -> tuple[Prompt, ...]:
    return tuple(
        Prompt(
            prompt_id=f"{noun}/{who}",
            text=f"{noun} for {who}",
            query=f"{noun} for {who}",
            relevance={f"d{NOUNS.index(noun)}": 3},
        )
        for noun in NOUNS
        for who in WHO
    )


@dataclass(frozen=True, kw_only=True)
class ToyTeacher:
    """Three different words, and the noun of the prompt first."""

    def __call__(self, prompt: Prompt, generator: torch.Generator) -> str:
        order = torch.randperm(len(WORDS), generator=generator)[:3].tolist()
        return ", ".join([prompt.text.split()[0], *(WORDS[index] for index in order)])


def toy_task(digest: str = "toy") -> SearchTask:
    prompts = toy_prompts()
    return SearchTask(
        name="toy",
        source="generated",
        documents=Documents(
            ids=tuple(f"d{index}" for index in range(len(NOUNS))),
            texts=tuple(f"a {noun}, {WORDS[index]}" for index, noun in enumerate(NOUNS)),
        ),
        train=prompts[:-4],
        validation=prompts[-4:-2],
        test=prompts[-2:],
        rules=TextRules(max_phrases=8, max_words=3, unique=True),
        teacher=ToyTeacher(),
        digest=digest,
    )
