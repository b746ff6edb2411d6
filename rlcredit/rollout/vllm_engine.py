"""vLLM inside this process: started on a policy's shape, given its weights, asked for tokens.

Imported by ``rollout/vllm.py`` when the first response is sampled, so that nothing else needs vLLM.
What was measured to go wrong, and is dealt with here (vLLM 0.32):

- ``reload_weights`` leaves a tied head's packed copy as it was on CPU;
- cached prefixes of the old weights are used for the new ones;
- a seeded request whose prompt is read in parts crashes the engine on CPU;
- starting replaces ``torch.set_num_threads`` by a no-op, and seeds every global stream;
- an engine that is no longer needed takes the state of all engines of the process with it;
- starting fails where llvmlite's ``ffi`` module was imported before (its scan of all modules).
"""

import gc
import os
import random
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel
from vllm import LLM, SamplingParams  # pyright: ignore[reportAttributeAccessIssue] own venv

from rlcredit.rollout.sampled import Sampled

FEWEST_BATCHED_TOKENS = 8192
"""Tokens of prompts that are read in one go, at least; more where the model reads more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """A vLLM engine whose weights are pushed to it."""

    llm: Any
    shape: str
    """The model config that the engine was made for, as JSON."""
    dtype: torch.dtype
    block_size: int
    """Tokens of a block of the prefix cache."""
    max_model_len: int

    @classmethod
    def start(
        cls,
        model: PreTrainedModel,
        *,
        dtype: torch.dtype,
        max_model_len: int | None,
        max_rows: int,
        kv_cache_bytes: int,
        eager: bool,
    ) -> "Engine":
        """An engine of the model's architecture, with weights that mean nothing yet.

        Raises:
            ValueError: If the model or the run is one that vLLM cannot sample for.
        """
        if dtype is torch.float64:
            raise ValueError(
                "the policy is float64, which vLLM has not; set rollout.dtype=float32 (and "
                "rollout.tolerance), or use rollout=hf"
            )
        config = deepcopy(model.config)
        config.architectures = [type(model).__name__]
        gc.collect()  # of an earlier job of the sweep: now, not under the new one's feet
        length = max_model_len or config.get_text_config().max_position_embeddings
        backend = _join_the_world(model.device)
        with TemporaryDirectory(prefix="rlcredit-vllm-") as folder, _process_as_it_was():
            config.save_pretrained(folder)  # the architecture alone: no weight touches the disk
            llm = LLM(
                model=folder,
                skip_tokenizer_init=True,
                load_format="dummy",
                generation_config="vllm",
                dtype=str(dtype).removeprefix("torch."),
                max_model_len=length,
                max_num_seqs=max_rows,
                # a seeded request must be read in one go
                enable_chunked_prefill=False,
                max_num_batched_tokens=max(length, FEWEST_BATCHED_TOKENS),
                enable_prefix_caching=True,
                kv_cache_memory_bytes=kv_cache_bytes,
                logprobs_mode="processed_logprobs",
                enforce_eager=eager,
                disable_log_stats=True,
                distributed_executor_backend=backend,
                seed=0,
            )
        settings = llm.llm_engine.vllm_config
        return cls(
            llm=llm,
            shape=_shape(model),
            dtype=dtype,
            block_size=settings.cache_config.block_size,
            max_model_len=settings.model_config.max_model_len,
        )

    def push(self, model: PreTrainedModel) -> None:
        """Make the engine's weights those of the model, and forget cached prefixes.

        Raises:
            ValueError: If the model is of another shape.
            RuntimeError: If the prefix cache is in use and cannot be reset.
        """
        if _shape(model) != self.shape:
            raise ValueError(
                f"the vLLM engine was started for another model than this {type(model).__name__}; "
                "give each policy a VLLMRollout of its own"
            )
        with _global_streams_kept():
            self.llm.collective_rpc(
                "reload_weights", kwargs={"weights_iterator": merged_weights(model)}
            )
            self.llm.apply_model(_repack_tied_head)
        if not self.llm.reset_prefix_cache():
            raise RuntimeError(
                "vLLM did not reset its prefix cache, which still holds keys and values of the "
                "weights before the update; a request of an earlier call must be under way"
            )

    def sample(
        self,
        prompts: Sequence[list[int]],
        *,
        into: Sampled,
        seeds: Sequence[int] | None,
        temperature: float,
        eos_ids: frozenset[int],
    ) -> None:
        """Fill the rows of a record with one response to each prompt.

        Args:
            prompts: Token ids, one list a row, with those that the row has been begun with.
            into: As wide as the length cap, which what is given counts towards.
            seeds: One a row; None takes the most probable tokens, with log-probs at temperature 1.
            temperature: Of the distribution that is sampled from.
            eos_ids: Tokens that end a response, and are its last token.

        Raises:
            RuntimeError: If there are fewer responses than prompts, or log-probs are missing.
        """
        room = (into.ids.shape[1] - into.mask.sum(dim=1)).tolist()
        common = {
            "logprobs": 0,  # of the sampled token alone
            "stop_token_ids": sorted(eos_ids),
            "ignore_eos": True,  # the engine knows of one; ours are all in stop_token_ids
            "detokenize": False,
        }
        if seeds is None:
            settings = [SamplingParams(temperature=0.0, max_tokens=m, **common) for m in room]
        else:
            settings = [
                SamplingParams(temperature=temperature, seed=seed, max_tokens=most, **common)
                for seed, most in zip(seeds, room, strict=True)
            ]
        with _global_streams_kept():
            outputs = self.llm.generate(
                [{"prompt_token_ids": prompt} for prompt in prompts], settings, use_tqdm=False
            )
        fill(into, outputs, prompts)


def fill(into: Sampled, outputs: Sequence[Any], prompts: Sequence[list[int]]) -> None:
    """Copy vLLM's outputs into the rows of a record, behind what they have been begun with.

    Raises:
        RuntimeError: If an output is missing, is another prompt's, or has no log-probs.
    """
    if len(outputs) != len(prompts):
        raise RuntimeError(
            f"vLLM returned {len(outputs)} responses to {len(prompts)} requests; some were dropped"
        )
    for row, (output, prompt) in enumerate(zip(outputs, prompts, strict=True)):
        (response,) = output.outputs
        tokens = list(response.token_ids)
        if output.prompt_token_ids != prompt or len(response.logprobs or ()) != len(tokens):
            raise RuntimeError(
                f"vLLM's response {row} is to another prompt, or lacks log-probs: "
                f"{len(tokens)} tokens, {len(response.logprobs or ())} log-probs"
            )
        chosen = [
            found[token].logprob for token, found in zip(tokens, response.logprobs, strict=True)
        ]
        begun = int(into.mask[row].sum())
        cells = slice(begun, begun + len(tokens))
        into.ids[row, cells] = torch.tensor(tokens, device=into.ids.device)
        into.logprobs[row, cells] = torch.tensor(chosen).to(into.logprobs)
        into.mask[row, cells] = True
        into.finished[row] = response.finish_reason == "stop"


def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Name and value of every weight as a checkpoint would hold it, low-rank adapters added in."""
    for name, parameter in model.named_parameters():
        owner, found, kind = name.rpartition(".base_layer.")
        if ".lora_" in name:
            continue
        if not found:
            yield name, parameter.detach()
            continue
        layer, value = model.get_submodule(owner), parameter.detach()
        if not isinstance(layer, Linear):
            raise ValueError(
                f"{name} belongs to a {type(layer).__name__}, only linear LoRA is merged"
            )
        if kind == "weight":
            with torch.no_grad():
                for adapter in layer.active_adapters:
                    value = value + layer.get_delta_weight(adapter)
        yield f"{owner}.{kind}", value


def _join_the_world(device: torch.device) -> str | None:
    """Of several processes each has a whole engine: vLLM is told that they are one world already.

    It reads their numbers from the environment, as torchrun sets them, and makes its groups in that
    world, so that all of them have to start their engines at the same time.
    """
    if not (torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1):
        return None
    os.environ["RANK"] = str(torch.distributed.get_rank())
    os.environ["LOCAL_RANK"] = str(device.index or 0)
    return "external_launcher"


def _shape(model: PreTrainedModel) -> str:
    return model.config.to_json_string(use_diff=False)


def _repack_tied_head(model: Any) -> None:
    """On CPU a head holds its weights packed, and a tied one is not packed again by a reload."""
    head = getattr(model, "lm_head", None)
    if head is None or not hasattr(head, "cpu_linear") or not model.config.tie_word_embeddings:
        return
    from vllm.model_executor.layers.utils import (  # pyright: ignore[reportMissingImports]
        dispatch_cpu_unquantized_gemm,
    )

    dispatch_cpu_unquantized_gemm(head, remove_weight=False)


@contextmanager
def _process_as_it_was() -> Iterator[None]:
    """Threads, affinity and random streams of the process survive the start of an engine."""
    set_threads, threads = torch.set_num_threads, torch.get_num_threads()
    cores = os.sched_getaffinity(0)
    hidden = sys.modules.pop("llvmlite.binding.ffi", None)
    try:
        with _global_streams_kept(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = set_threads
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        if hidden is not None:
            sys.modules["llvmlite.binding.ffi"] = hidden


@contextmanager
def _global_streams_kept() -> Iterator[None]:
    """Draws of vLLM's do not move the streams that dropout and others draw from."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
