"""What a table would cost on GPUs: a count of floating-point operations, not a measurement."""

from dataclasses import dataclass

PEAK_FLOPS = 989e12
"""Operations a second of an H100 (SXM) in bf16, dense; NVIDIA's data sheet."""
TRAINING_SHARE = 0.35
"""Share of the peak that training reaches; an assumption."""
SAMPLING_SHARE = 0.05
"""Share of the peak that sampling reaches; an assumption, memory being its limit."""

SEGMENTS = 8
"""Segments of a response, where continuations of them are counted."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a run does at every step."""

    steps: int
    prompts_per_step: int
    group_size: int
    updates: int
    """Passes over the batch, each with a step of the optimizer."""
    prompt_tokens: int
    new_tokens: int
    continuations: int = 0
    """Sampled from the text before each segment but the first, of a response of 8 segments."""
    rounds: int = 0
    """Rounds in which all groups of equal rewards are replaced, as if all groups were."""

    @property
    def sampled_share(self) -> float:
        """Responses sampled for each that is trained on; a continuation is half of one."""
        return (1 + self.rounds) * (1 + self.continuations * (SEGMENTS - 1) / 2)


def gpu_hours(batch: Batch, *, parameters: float) -> float:
    """Hours of one GPU for a run: 2 N a token sampled, 8 N a token and update trained on.

    8 = forward 2, backward 4, and 2 for activations that are computed again (standard counts);
    rewards, evaluations, loading and a reference policy's log-probs are left out.
    """
    tokens = batch.steps * batch.prompts_per_step * batch.group_size
    tokens *= batch.prompt_tokens + batch.new_tokens
    per_token = 2 * batch.sampled_share / SAMPLING_SHARE + 8 * batch.updates / TRAINING_SHARE
    return tokens * parameters * per_token / PEAK_FLOPS / 3600
