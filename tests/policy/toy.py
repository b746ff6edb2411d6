"""A small task of made-up words, for tests of policies and rollouts."""

import atexit
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import torch

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.vocabulary import Alphabet
from rlcredit.policy.warm_start import WarmStart
from rlcredit.retrieval.base import Documents
from rlcredit.tasks.base import SearchTask
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt

NOUNS = ("tent", "lamp", "boots", "kettle", "backpack", "chair")
WHO = ("my father", "a long winter hike", "two", "the office", "small children")
WORDS = ("red", "light", "waterproof", "for winter", "soft", "steel", "quiet", "very warm")


def toy_prompts() -> tuple[Prompt, ...]:
    return tuple(
        Prompt(
            prompt_id=f"{noun}/{who}".replace(" ", "-"),
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


@cache
def _taught(steps: int) -> Path:
    folder = Path(mkdtemp(prefix="toy-policy-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def toy_policy(
    *,
    steps: int = 60,
    dtype: torch.dtype = torch.float32,
    extra_ends: int = 0,
    alphabet: Alphabet = Alphabet.bytes,
) -> CausalLM:
    """A fresh copy of a tiny policy; ``extra_ends`` more tokens that end a response."""
    source = Tiny(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        head_dim=16,
        vocab_size=400,
        alphabet=alphabet,
        warm_start=WarmStart(steps=steps),
    )
    made = source.load(
        toy_task(), seed=0, cache=_taught(steps), device=torch.device("cpu"), say=lambda line: None
    )
    made.model.to(dtype)
    if extra_ends:
        made.model.generation_config.eos_token_id = list(range(1, 1 + extra_ends))
    return CausalLM(model=made.model, tokenizer=made.tokenizer, origin=made.origin)
