"""What to lower when a batch does not fit into memory, with the arithmetic."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Rollouts

_CPU_ALLOCATOR = "DefaultCPUAllocator"
"""Torch's allocator of the CPU raises a plain RuntimeError; its name is all there is to go by."""


class DoesNotFitError(RuntimeError):
    """A batch is larger than the memory; no optimizer step was taken on it."""


def _is_about_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or _CPU_ALLOCATOR in str(error)


@contextmanager
def sampling_fits(settings: TrainerSettings, *, max_new_tokens: int) -> Iterator[None]:
    """Explain running out of memory while sampling.

    Raises:
        DoesNotFitError: Instead of the allocator's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_about_memory(error):
            raise
        prompts, group = settings.prompts_per_step, settings.group_size
        raise DoesNotFitError(
            f"sampling does not fit into memory: trainer.prompts_per_step={prompts} x "
            f"trainer.group_size={group} = {prompts * group} responses of up to {max_new_tokens} "
            f"tokens. Lower one of them, or rollout.max_new_tokens. ({error})"
        ) from error


@contextmanager
def update_fits(
    settings: TrainerSettings, rollouts: Rollouts, chunks: list[slice]
) -> Iterator[None]:
    """Explain running out of memory in an update's passes.

    Raises:
        DoesNotFitError: Instead of the allocator's own error.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_about_memory(error):
            raise
        prompt, response = rollouts.prompt_ids.shape[1], rollouts.response_ids.shape[2]
        rows = max(chunk.stop - chunk.start for chunk in chunks)
        budget, row = settings.tokens_per_microbatch, prompt + response
        remedy = (
            f"Lower trainer.tokens_per_microbatch, to no less than {row}, a single row"
            if rows > 1
            else "A part is a single row already, and neither trainer.prompts_per_step nor "
            "trainer.group_size changes that: lower rollout.max_new_tokens, or take "
            "policy.gradient_checkpointing=true (policy=hf)"
        )
        raise DoesNotFitError(
            f"an update does not fit into memory: {settings.prompts_per_step} prompts x "
            f"{settings.group_size} responses are taken in {len(chunks)} parts of up to {rows} "
            f"rows (trainer.tokens_per_microbatch={budget}), a row having up to {prompt} prompt + "
            f"{response} response = {row} tokens. {remedy}. ({error})"
        ) from error
