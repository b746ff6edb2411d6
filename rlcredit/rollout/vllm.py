"""Sampling with vLLM, in the process that trains.

This module knows settings and when to push weights; ``vllm_engine.py`` knows vLLM, and is imported
when the first response is sampled.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from rlcredit.policy.base import Policy
from rlcredit.policy.footprint import Footprint, MemoryLine
from rlcredit.policy.hf import Dtype
from rlcredit.rollout.hf import evaluating
from rlcredit.rollout.sampled import Sampled, check_request, check_settings
from rlcredit.types import Prompt, Randomness, Rollouts

if TYPE_CHECKING:
    from rlcredit.rollout.vllm_engine import Engine

ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # in this process, where the weights are
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
"""Read by vLLM when it is imported; what the environment already says is kept."""
PROBE_TOKENS = 4
PROBE_SEED = 20240501
TOLERANCE = {torch.float32: 1e-4}
HALF_TOLERANCE = 0.25


class StaleWeightsError(RuntimeError):
    """The engine samples from other weights than the policy's."""


@dataclass
class _Slot:
    """Holds the engine once it is made: it is expensive, and settings are frozen."""

    engine: "Engine | None" = None
    checked: set[int] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class VLLMRollout:
    """Samples responses with vLLM, in the training process; of several, in each for its prompts.

    Every call first pushes the policy's weights (adapters merged) into the engine, in memory, and
    forgets what the prefix cache holds of the old ones. Every rollout is a request with a seed of
    its own, drawn from ``Randomness`` as the other engine's stream is; the two engines draw
    different samples from the same distribution.

    Raises:
        ValueError: If a setting is out of its range, or vLLM is not installed.
    """

    max_new_tokens: int = 32
    """Longest response, in tokens."""
    temperature: float = 1.0
    """What logits are divided by before sampling; positive."""
    max_rows: int = 256
    """Responses that are decoded at once."""
    dtype: Dtype | None = None
    """Number format of the engine's copy of the weights; null: the policy's own."""
    max_model_len: int | None = None
    """Tokens of prompt and response together; null: what the model can read."""
    kv_cache_gib: float = 1.0
    """Memory for keys and values."""
    eager: bool = True
    """False compiles the model and captures CUDA graphs: a slower start, faster decoding on GPU."""
    check_every: int = 10
    """Steps between two freshness checks; the first call always has one."""
    tolerance: float | None = None
    """Largest |log-prob difference| that the check accepts; null: 1e-4 in float32, 0.25 in half
    precision."""
    _slot: _Slot = field(default_factory=_Slot, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the ranges, and that vLLM is there."""
        check_settings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            max_rows=self.max_rows,
        )
        if self.dtype is Dtype.float64:
            raise ValueError("rollout.dtype=float64: vLLM has float32 and bfloat16; use float32")
        if self.max_model_len is not None and self.max_model_len <= self.max_new_tokens:
            raise ValueError(
                f"rollout.max_model_len={self.max_model_len} leaves no room for a prompt beside "
                f"rollout.max_new_tokens={self.max_new_tokens}"
            )
        if not self.kv_cache_gib > 0:
            raise ValueError(f"rollout.kv_cache_gib={self.kv_cache_gib} must be positive")
        if self.check_every < 1:
            raise ValueError(f"rollout.check_every={self.check_every}, but must be 1 or more")
        if self.tolerance is not None and not self.tolerance > 0:
            raise ValueError(f"rollout.tolerance={self.tolerance} must be positive")
        if find_spec("vllm") is None:
            raise ValueError(
                "rollout=vllm needs vLLM, which is not installed here: `make test-vllm` makes "
                ".venv-vllm with its CPU build (then .venv-vllm/bin/python train.py "
                "rollout=vllm); with CUDA, pip install 'rlcredit[vllm]'. rollout=hf needs neither"
            )

    @property
    def context(self) -> int | None:
        """Tokens of prompt and response together that the engine is started for."""
        return self.max_model_len

    def memory(
        self, model: Footprint, *, prompt_tokens: int, shares_prompts: bool
    ) -> list[MemoryLine]:
        """The engine's copy of the weights, and its cache."""
        del prompt_tokens, shares_prompts
        dtype = model.dtype if self.dtype is None else self.dtype.torch
        return [
            MemoryLine(what="the engine's copy", num_bytes=model.numbers * dtype.itemsize),
            MemoryLine(what="the engine's cache", num_bytes=int(self.kv_cache_gib * 2**30)),
        ]

    def start(self, policy: Policy) -> None:
        """Start the engine, which makes its groups of processes with those of the others.

        Raises:
            ValueError: If vLLM cannot sample for the model or the run.
        """
        self._engine(policy)

    def __call__(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        randomness: Randomness,
        offset: int = 0,
        greedy: bool = False,
        spans: bool = True,
    ) -> Rollouts:
        """G responses to each prompt; see the protocol.

        Raises:
            ValueError: If there is no prompt, a prompt is too long, a greedy group has siblings, or
                the policy is not one that the engine was made for.
            RuntimeError: If the engine gives fewer responses than asked for.
            StaleWeightsError: If its log-probs are not the policy's.
        """
        check_request(prompts, group_size=group_size, greedy=greedy)
        ids, mask = policy.encode(prompts, reserve=self.max_new_tokens)
        rows = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
        self._refuse_long(prompts, rows)
        engine = self._fresh_engine(policy, randomness.step)
        first = offset * group_size
        seeds = [
            randomness.generator("rollout", first + row).initial_seed()
            for row in range(len(prompts) * group_size)
        ]
        sampled = Sampled.empty(len(seeds), self.max_new_tokens, policy, ids.device)
        engine.sample(
            [row for row in rows for _ in range(group_size)],
            into=sampled,
            seeds=None if greedy else seeds,
            temperature=self.temperature,
            eos_ids=policy.eos_ids,
        )
        rollouts = sampled.rollouts(
            policy, prompts, ids, mask, temperature=self.temperature, spans=spans
        )
        if greedy and self.temperature != 1:  # vLLM reports these at temperature 1
            return _rescored(policy, rollouts)
        return rollouts

    def resume(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        prefixes: Sequence[Sequence[int]],
        *,
        count: int,
        randomness: Randomness,
        indices: Sequence[int],
    ) -> Rollouts:
        """Responses that begin with given tokens; see the protocol. The prefix cache reads them.

        Raises:
            ValueError: If there is no prompt, a prompt or what is given is too long, or the policy
                is not one that the engine was made for.
            RuntimeError: If the engine gives fewer responses than asked for.
            StaleWeightsError: If its log-probs are not the policy's.
        """
        check_request(prompts, group_size=count, greedy=False)
        ids, mask = policy.encode(prompts, reserve=self.max_new_tokens)
        rows = [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)]
        self._refuse_long(prompts, rows)
        sampled = Sampled.begun(prefixes, count, self.max_new_tokens, policy, ids.device)
        seeds = [
            randomness.generator("continuation", index * count + n).initial_seed()
            for index in indices
            for n in range(count)
        ]
        self._fresh_engine(policy, randomness.step).sample(
            [
                [*row, *prefix]
                for row, prefix in zip(rows, prefixes, strict=True)
                for _ in range(count)
            ],
            into=sampled,
            seeds=seeds,
            temperature=self.temperature,
            eos_ids=policy.eos_ids,
        )
        return sampled.rollouts(
            policy, prompts, ids, mask, temperature=self.temperature, spans=False
        )

    def _fresh_engine(self, policy: Policy, step: int) -> "Engine":
        """The engine with the policy's weights, compared with the policy where that is due."""
        engine = self._engine(policy)
        engine.push(policy.model)
        self._assert_fresh(engine, policy, step)
        return engine

    def _engine(self, policy: Policy) -> "Engine":
        """Made at the first call; the import takes seconds and changes the process."""
        if self._slot.engine is None:
            for name, value in ENVIRONMENT.items():
                os.environ.setdefault(name, value)
            with warnings.catch_warnings():  # of the libraries that it imports, to one another
                warnings.simplefilter("ignore")
                from rlcredit.rollout.vllm_engine import Engine

            self._slot.engine = Engine.start(
                policy.model,
                dtype=policy.model.dtype if self.dtype is None else self.dtype.torch,
                max_model_len=self.max_model_len,
                max_rows=self.max_rows,
                kv_cache_bytes=int(self.kv_cache_gib * 2**30),
                eager=self.eager,
            )
        return self._slot.engine

    def _refuse_long(self, prompts: Sequence[Prompt], rows: Sequence[Sequence[int]]) -> None:
        for prompt, row in zip(prompts, rows, strict=True):
            if self.max_model_len is not None and len(row) + self.max_new_tokens > (
                self.max_model_len
            ):
                raise ValueError(
                    f"prompt {prompt.prompt_id!r} has {len(row)} tokens and "
                    f"rollout.max_new_tokens={self.max_new_tokens}, together more than "
                    f"rollout.max_model_len={self.max_model_len}; raise it or shorten the prompts"
                )

    def _assert_fresh(self, engine: "Engine", policy: Policy, step: int) -> None:
        """Log-probs of a prompt of more than two cache blocks, the engine's beside the policy's.

        The prompt is always the same, so that blocks cached under older weights would be found.
        """
        due = not self._slot.checked or step % self.check_every == 0
        if not due or step in self._slot.checked:
            return
        self._slot.checked.add(step)
        length = min(2 * engine.block_size + 3, engine.max_model_len - PROBE_TOKENS)
        vocabulary = policy.model.config.get_text_config().vocab_size
        prompt = [(7 * index + 3) % vocabulary for index in range(length)]
        sampled = Sampled.empty(1, PROBE_TOKENS, policy, torch.device("cpu"))
        engine.sample(
            [prompt],
            into=sampled,
            seeds=[PROBE_SEED + step],
            temperature=self.temperature,
            eos_ids=frozenset(),
        )
        ids = torch.tensor([[*prompt, *sampled.ids[0].tolist()]], device=policy.model.device)
        expected = _logprobs(policy, ids, PROBE_TOKENS, self.temperature)
        gap = float((sampled.logprobs - expected.cpu()).abs().max())
        allowed = self.tolerance or TOLERANCE.get(engine.dtype, HALF_TOLERANCE)
        if not gap <= allowed:
            raise StaleWeightsError(
                f"step {step}: vLLM's log-probs differ from the policy's by up to {gap:.3g}, and "
                f"{allowed:g} is allowed: its weights or its prefix cache are stale, or its number "
                "format is coarser (then raise rollout.tolerance). rollout=hf has neither"
            )


def _logprobs(policy: Policy, ids: Int[Tensor, "1 L"], last: int, temperature: float) -> Tensor:
    """Log-probabilities in nats of the last tokens of one row, from one plain forward pass."""
    attend = torch.ones_like(ids)
    with torch.no_grad(), evaluating(policy.model):
        logits = policy.model(
            input_ids=ids, attention_mask=attend, use_cache=False, logits_to_keep=last + 1
        ).logits[:, :-1]
    every = (logits.float() / temperature).log_softmax(-1)
    return every.gather(-1, ids[:, -last:, None]).squeeze(-1)


def _rescored(policy: Policy, rollouts: Rollouts) -> Rollouts:
    """The same responses with the policy's own log-probs, at the rollouts' temperature."""
    with torch.no_grad(), evaluating(policy.model):
        logprobs = policy.logprobs(rollouts).logprobs
    shaped = logprobs.view_as(rollouts.rollout_logprobs)
    return replace(rollouts, rollout_logprobs=shaped.to(rollouts.rollout_logprobs.dtype))
