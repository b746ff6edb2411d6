"""Is the policy that a run leaves the policy that was evaluated?"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import positions, token_logprobs
from rlcredit.rollout.hf import evaluating
from rlcredit.types import Prompt

NUM_COMPARED = 4
"""Prompts that are read by both."""
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-3}
"""Largest difference of two log-probs, in nats; merged adapters move their last bits."""
HALF_TOLERANCE = 0.5


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
    gap, allowed = float(gaps.abs().max()), TOLERANCE.get(policy.model.dtype, HALF_TOLERANCE)
    if gap <= allowed:
        return None
    return (
        f"{folder} does not hold the policy that was evaluated: loaded again, its log-probs of "
        f"prompts differ by up to {gap:.3g} nats ({allowed:g} is allowed in {policy.model.dtype}); "
        "the scores of this run are not those of the folder. The last checkpoint holds the weights"
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
