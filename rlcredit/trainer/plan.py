"""Memory of a run in each process, by arithmetic, before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from transformers import PreTrainedModel

from rlcredit.policy.attention import obstacle
from rlcredit.policy.footprint import Footprint, Kept, MemoryLine, Phase, kept_by_autograd
from rlcredit.policy.head import chunk_rows
from rlcredit.policy.packing import Packing
from rlcredit.policy.sharded import Weights
from rlcredit.rollout.base import Rollout
from rlcredit.trainer.settings import TrainerSettings

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """What lies in the memory of one process, line by line."""

    lines: tuple[MemoryLine, ...]

    def of(self, phase: Phase) -> int:
        """Bytes of one phase."""
        return sum(line.num_bytes for line in self.lines if line.phase is phase)

    @property
    def peak(self) -> int:
        """Bytes of what lies there always, and of the larger of the two phases."""
        return self.of(Phase.always) + max(self.of(Phase.sampling), self.of(Phase.update))

    @property
    def largest(self) -> MemoryLine:
        """The line to begin with."""
        return max(self.lines, key=lambda line: line.num_bytes)

    def text(self) -> str:
        """A line for each thing, and their sum."""
        rows = [(f"{line.what} ({line.phase})", line.num_bytes) for line in self.lines]
        rows.append(("peak: what lies there always and the larger phase", self.peak))
        return "\n".join(f"{size / GIB:10.3f} GiB  {what}" for what, size in rows)


def lasting_lines(
    model: Footprint, settings: TrainerSettings, *, size: int, has_reference: bool
) -> list[MemoryLine]:
    """Weights, gradients, moments, and the reference's weights: what no setting of a batch changes.

    Args:
        model: Sizes of the policy's model.
        settings: Of the trainer.
        size: Processes of the run.
        has_reference: The loss asks for a second copy of the weights.
    """
    parts = size if settings.weights is Weights.sharded else 1
    found = {"weights": model.weight_bytes}
    if settings.steps:
        found |= {"gradients": model.trained_bytes, "AdamW's moments": 2 * model.trained_bytes}
    if has_reference:
        found["weights of the reference"] = model.weight_bytes
    return [MemoryLine(what=what, num_bytes=ceil(each / parts)) for what, each in found.items()]


def sharded_lines(model: Footprint, settings: TrainerSettings) -> list[MemoryLine]:
    """Whole weights for sampling, and two units for the passes: the used one and the next."""
    if settings.weights is not Weights.sharded:
        return []
    dtype = model.dtype if settings.compute_dtype is None else settings.compute_dtype.torch
    whole, unit = model.numbers * dtype.itemsize, model.unit_numbers * dtype.itemsize
    return [
        MemoryLine(what="whole weights, gathered", num_bytes=whole, phase=Phase.sampling),
        MemoryLine(what="two gathered units", num_bytes=2 * unit, phase=Phase.update),
    ]


def update_lines(
    model: Footprint, kept: Kept, settings: TrainerSettings, *, tokens: int
) -> list[MemoryLine]:
    """Activations of a micro-batch, and the head's blocks of logits with its gradient."""
    block = chunk_rows(model.vocabulary, settings.device.split(":")[0]) * model.vocabulary
    hidden = tokens * model.hidden_size * model.dtype.itemsize
    found = {
        f"activations of {tokens:,} tokens": kept.bytes_per_token * tokens,
        "weights that autocast has cast": kept.once_bytes,
        "the head's logits and hidden states": 3 * 4 * block + 2 * hidden,
        "the head's gradient": 4 * model.vocabulary * model.hidden_size,
    }
    return [
        MemoryLine(what=what, num_bytes=each, phase=Phase.update)
        for what, each in found.items()
        if each
    ]


def memory_plan(
    model: PreTrainedModel,
    settings: TrainerSettings,
    rollout: Rollout,
    *,
    prompt_tokens: int,
    size: int,
    has_reference: bool,
) -> MemoryPlan:
    """What one of the processes of a run holds.

    Args:
        model: The policy's, on the meta device; not to be used afterwards.
        settings: Of the trainer.
        rollout: Samples the responses.
        prompt_tokens: Of the longest prompt.
        size: Processes of the run.
        has_reference: The loss asks for a second copy of the weights.
    """
    sizes = Footprint.of(model)
    shares = settings.packing is Packing.shared_prefix and obstacle(model) is None
    row = prompt_tokens + rollout.max_new_tokens
    group = settings.group_size
    prompts = ceil(settings.prompts_per_step / size)
    batch = prompts * (prompt_tokens + group * rollout.max_new_tokens if shares else group * row)
    tokens = min(batch, max(settings.tokens_per_microbatch, row))
    lines: Sequence[MemoryLine] = [
        *lasting_lines(sizes, settings, size=size, has_reference=has_reference),
        *rollout.memory(sizes, prompt_tokens=prompt_tokens, shares_prompts=shares),
        *sharded_lines(sizes, settings),
    ]
    if settings.steps:
        kept = kept_by_autograd(model, autocast=settings.autocast)
        lines = [*lines, *update_lines(sizes, kept, settings, tokens=tokens)]
    return MemoryPlan(lines=tuple(lines))
