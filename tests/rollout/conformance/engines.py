"""The engines under test, and a policy that each of them can sample from."""

from copy import deepcopy
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.vocabulary import Alphabet
from rlcredit.policy.warm_start import WarmStart
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.hf import Decoding, HFRollout
from rlcredit.rollout.vllm import VLLMRollout
from rlcredit.types import Prompt
from tests.policy.toy import toy_task

HAS_VLLM = find_spec("vllm") is not None


class StaticHFRollout(HFRollout):
    """Keys and values in buffers of fixed shape."""


ENGINES = [HFRollout, StaticHFRollout, *([VLLMRollout] if HAS_VLLM else [])]
CAP = 12
CONTEXT = 512
BLOCK = 128
"""Tokens of a cache block of vLLM on a processor; fewer on a GPU."""


@cache
def hf(*, temperature: float = 1.0, max_new_tokens: int = CAP, max_rows: int = 256) -> Rollout:
    return HFRollout(max_new_tokens=max_new_tokens, temperature=temperature, max_rows=max_rows)


@cache
def static(*, temperature: float = 1.0, max_new_tokens: int = CAP, max_rows: int = 256) -> Rollout:
    return HFRollout(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        max_rows=max_rows,
        decoding=Decoding.static,
    )


@cache
def vllm(*, temperature: float = 1.0, max_new_tokens: int = CAP, max_rows: int = 256) -> Rollout:
    return VLLMRollout(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        max_rows=max_rows,
        kv_cache_gib=0.05,
    )


ALIVE: list[VLLMRollout] = []
"""When one engine of the process is dropped, vLLM takes the state of all of them with it."""


def kept(**settings) -> VLLMRollout:
    """An engine of its own."""
    ALIVE.append(VLLMRollout(kv_cache_gib=0.05, **({"max_new_tokens": CAP} | settings)))
    return ALIVE[-1]


MAKERS = {HFRollout: hf, StaticHFRollout: static, VLLMRollout: vllm}


def prompt(text: str) -> Prompt:
    return Prompt(prompt_id=text[:20], text=text, query=text, relevance={})


SHORT = tuple(map(prompt, ("tent", "lamp for a long winter hike")))
OVER_BLOCKS = tuple(
    prompt(" ".join([first] + ["for two"] * (BLOCK + 8))) for first in ("tent", "chair")
)
"""Prompts that share nothing with each other, and fill more than two cache blocks."""
PROMPTS = SHORT + OVER_BLOCKS


@cache
def _made() -> CausalLM:
    tiny = Tiny(
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        head_dim=32,
        vocab_size=400,
        context=CONTEXT,
        alphabet=Alphabet.bytes,  # at its initial weights it writes texts of all lengths
        warm_start=WarmStart(steps=0),
    )
    with TemporaryDirectory() as folder:
        made = tiny.load(
            toy_task(),
            seed=0,
            cache=Path(folder),
            device=torch.device("cpu"),
            say=lambda line: None,
        )
    with torch.no_grad():  # sharp enough that prompts and weights matter
        for p in made.model.parameters():
            if p.dim() > 1:
                p.mul_(4)
    return made


def fresh_policy(*, extra_ends: int = 0) -> CausalLM:
    """A copy of a small policy; ``extra_ends`` more tokens that end a response."""
    made = deepcopy(_made())
    if extra_ends:
        made.model.generation_config.eos_token_id = list(range(1, 1 + extra_ends))
    return CausalLM(model=made.model, tokenizer=made.tokenizer, origin=made.origin)


def update(policy: CausalLM, seed: int) -> None:
    """An in-place change of every weight matrix, as an optimizer makes it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in policy.model.parameters():
            if p.dim() > 1:
                p.add_(0.3 * p.std() * torch.randn(p.shape, generator=generator))
