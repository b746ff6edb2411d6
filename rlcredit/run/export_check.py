"""Is the policy that a run leaves the policy that was evaluated?"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel

from rlcredit.files import writing
from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import pad_id, positions, token_logprobs
from rlcredit.rollout.base import Rollout
from rlcredit.rollout.hf import evaluating
from rlcredit.types import Prompt

NUM_COMPARED = 4
"""Prompts that are read by both."""


class ExportError(RuntimeError):
    """A run's exported policy is not the one that it evaluated."""


def tolerance(dtype: torch.dtype) -> float:
    """Largest difference of two log-probs that rounding explains, in nats.

    Derived here: weights that are saved and loaded are the same bits, but merged adapters are
    rounded once more, and attention and products come in another order. Each rounding is eps of its
    value, they add up over the width and depth of a model to at most half of the digits, sqrt(eps),
    and log-probs are some nats. Models take their norms in float32 whatever their weights are.
    """
    eps = max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    return 4 * eps**0.5


def export(policy: Policy, rollout: Rollout, folder: Path) -> None:
    """Write a policy's folder, with settings by which transformers samples as the run did.

    Raises:
        OSError: If it cannot be written: why, and what to do.
    """
    with writing(folder):
        try:
            policy.export(folder)
            sampling(policy, rollout).save_pretrained(folder)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def sampling(policy: Policy, rollout: Rollout) -> GenerationConfig:
    """The settings of a run's rollouts for ``generate``: any token, at the run's temperature.

    transformers keeps the 50 most probable tokens unless ``top_k`` is 0.
    """
    given = policy.model.generation_config or GenerationConfig()
    return GenerationConfig(
        do_sample=True,
        temperature=rollout.temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=rollout.max_new_tokens,
        bos_token_id=given.bos_token_id,
        eos_token_id=sorted(policy.eos_ids),
        pad_token_id=pad_id(policy.tokenizer, policy.eos_ids),
    )


def export_fault(policy: Policy, folder: Path, prompts: Sequence[Prompt]) -> str | None:
    """What is wrong with an exported policy, as a sentence; None: it is the policy.

    Args:
        policy: That was exported.
        folder: Holds the export, which is loaded again.
        prompts: A few; the log-probs of their tokens are compared.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=policy.model.dtype, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        return f"{folder} holds the trained policy and cannot be loaded again: {error}"
    texts = [prompt.text for prompt in prompts]
    if tokenizer(texts)["input_ids"] != policy.tokenizer(texts)["input_ids"]:
        return f"{folder} holds another tokenizer than the policy's: it reads prompts otherwise"
    ids, mask = policy.encode(prompts)
    model.to(policy.model.device)  # pyright: ignore[reportArgumentType] a decorator hides `self`
    with evaluating(policy.model):
        gaps = _logprobs(policy.model, ids, mask) - _logprobs(model, ids, mask)
    gap, allowed = float(gaps.abs().max()), tolerance(policy.model.dtype)
    if gap <= allowed:
        return None
    return (
        f"{folder} does not hold the policy that was evaluated: loaded again, its log-probs of "
        f"prompts differ by up to {gap:.3g} nats ({allowed:.2g} is allowed in "
        f"{policy.model.dtype}), so the scores of this run are not those of the folder"
    )


@torch.no_grad()
def _logprobs(
    model: PreTrainedModel, ids: Int[Tensor, "P L"], mask: Bool[Tensor, "P L"]
) -> Float[Tensor, "P L-1"]:
    """Log-probs of every token but a prompt's first; 0 on padding."""
    logits = model(
        input_ids=ids, attention_mask=mask.long(), position_ids=positions(mask), use_cache=False
    ).logits
    scored = token_logprobs(logits[:, :-1], ids[:, 1:], temperature=1.0).logprobs
    return scored.masked_fill(~(mask[:, 1:] & mask[:, :-1]), 0)
