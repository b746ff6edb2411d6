"""One update's gradient, in micro-batches that change memory and speed but no number.

Every denominator of a loss is counted over the whole update before the first backward pass, so the
values (and gradients) of micro-batches simply add up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import Policy
from rlcredit.policy.packing import Packing
from rlcredit.types import Metrics, Rollouts, UpdateBatch


@dataclass(frozen=True, kw_only=True)
class Gradient:
    """What an accumulated backward pass leaves besides ``parameter.grad``."""

    loss: float
    metrics: Metrics
    logprobs: Float[Tensor, "P G T"]
    """Log-probabilities in nats under the policy before the update; detached."""
    entropy: Float[Tensor, "P G T"]
    """Entropy in nats of the policy's distribution at each token, before the update."""


def microbatches(
    rollouts: Rollouts, tokens: int, *, packing: Packing = Packing.padded
) -> list[slice]:
    """Rows of the flattened [P * G] batch: at most ``tokens`` tokens in each part, at least a row.

    Padded, every row counts as the longest; with shared prompts, the tokens that are really there
    count, a prompt once for each part that holds rows of it.
    """
    num_prompts, group_size, length = rollouts.response_ids.shape
    total = num_prompts * group_size
    if packing is Packing.padded:
        rows = max(1, tokens // (rollouts.prompt_ids.shape[1] + length))
        return [slice(start, min(start + rows, total)) for start in range(0, total, rows)]
    prompts = rollouts.prompt_mask.sum(1).tolist()
    responses = rollouts.response_mask.sum(2).flatten().tolist()
    # Greedy, in order: rows stay consecutive, so that siblings share their prompt's one copy.
    parts, start, used = [], 0, 0
    for row, length in enumerate(responses):
        prompt = prompts[row // group_size]
        cost = length + (prompt if row == start or row % group_size == 0 else 0)
        if row > start and used + cost > tokens:
            parts.append(slice(start, row))
            start, used, cost = row, 0, length + prompt
        used += cost
    return [*parts, slice(start, total)]


def rows_of(batch: UpdateBatch, rows: slice) -> UpdateBatch:
    """Rows of an update as groups of one; counts stay those of the whole update."""

    def cut(values: Tensor) -> Tensor:
        return values.flatten(0, 1)[rows, None]

    ref, ranks = batch.ref_logprobs, batch.entropy_rank
    return replace(
        batch,
        advantages=cut(batch.advantages),
        response_mask=cut(batch.response_mask),
        old_logprobs=cut(batch.old_logprobs),
        rollout_logprobs=cut(batch.rollout_logprobs),
        ref_logprobs=None if ref is None else cut(ref),
        entropy_rank=None if ranks is None else cut(ranks),
    )


def accumulate(
    policy: Policy,
    loss: PolicyLoss,
    rollouts: Rollouts,
    batch: UpdateBatch,
    *,
    chunks: list[slice],
    on_policy: bool,
    num_passes: int = 0,
    factor: float = 1.0,
) -> Gradient:
    """Add one update's gradient to ``parameter.grad``.

    Args:
        policy: Differentiated.
        loss: A loss that couples a group's rollouts is taken over the whole batch.
        rollouts: The tokens.
        batch: Advantages, masks, old log-probs and counts.
        chunks: Micro-batches of rows, see :func:`microbatches`.
        on_policy: The policy has not moved since the rollouts: its own log-probs are the old ones,
            so ``batch.old_logprobs`` is not read and no extra forward pass is needed.
        num_passes: Passes of the process with the most chunks, the same number in all of them; a
            process with fewer chunks adds passes of weight zero, so that all meet in the
            collectives of a sharded model.
        factor: Multiplies the gradient and nothing else; the number of processes, where their
            gradients are averaged.
    """
    if loss.couples_group and max(num_passes, len(chunks)) > 1:
        return _two_passes(
            policy,
            loss,
            rollouts,
            batch,
            chunks=chunks,
            on_policy=on_policy,
            num_passes=num_passes,
            factor=factor,
        )
    # One graph at a time: it is freed by its backward pass before the next chunk is computed.
    total, parts = _Total(), []
    for rows in chunks:
        scored = policy.logprobs(rollouts, rows)
        # A coupled loss gets here with a single chunk, which is the whole batch.
        part = batch if loss.couples_group else rows_of(batch, rows)
        logprobs = scored.logprobs.view(part.response_mask.shape)
        # Ratios are then exactly 1, while their gradient in the log-probs is kept.
        if on_policy:
            part = replace(part, old_logprobs=logprobs.detach())
        out = loss(logprobs, part)
        (out.value * factor).backward()
        total.add(out.value.detach(), out.metrics)
        parts.append((scored.logprobs.detach(), scored.entropy))
    for rows in _fillers(chunks, num_passes):
        _backward_weighted(policy, rollouts, rows, 0.0)
    return total.gradient(parts, batch)


def _fillers(chunks: list[slice], num_passes: int) -> list[slice]:
    """Rows for the passes that a process makes only to be in step with others.

    A sharded model gathers its weights in every pass, and a collective waits for all processes.
    """
    return chunks[:1] * max(0, num_passes - len(chunks))


def _backward_weighted(
    policy: Policy, rollouts: Rollouts, rows: slice, weights: Tensor | float
) -> None:
    """Add the gradient of sum(weights * logprobs) over some rows to ``parameter.grad``."""
    (policy.logprobs(rollouts, rows).logprobs * weights).sum().backward()


def _two_passes(
    policy: Policy,
    loss: PolicyLoss,
    rollouts: Rollouts,
    batch: UpdateBatch,
    *,
    chunks: list[slice],
    on_policy: bool,
    num_passes: int,
    factor: float,
) -> Gradient:
    """The exact gradient of a group-coupled loss, holding one micro-batch's graph at a time.

    d loss / d theta = sum over tokens of (d loss / d logprob) * (d logprob / d theta): the first
    factor is taken once over all rollouts, the second chunk by chunk. Costs one forward pass more,
    and needs a forward pass that repeats itself (no dropout).
    """
    # First pass, no graph: the log-probs of all rollouts.
    with torch.no_grad():
        parts = [
            (scored.logprobs, scored.entropy)
            for scored in (policy.logprobs(rollouts, rows) for rows in chunks)
        ]
        for rows in _fillers(chunks, num_passes):
            policy.logprobs(rollouts, rows)
    logprobs = torch.cat([part[0] for part in parts]).view(batch.response_mask.shape)
    if on_policy:
        batch = replace(batch, old_logprobs=logprobs.clone())
    # d loss / d logprob [P, G, T], with siblings in sight of each other.
    leaf = logprobs.clone().requires_grad_()
    out = loss(leaf, batch)
    (by_logprob,) = torch.autograd.grad(out.value, leaf)
    # Second pass: each chunk's log-probs again, with their graph, weighted by that.
    for rows, weights in zip(chunks, _split(by_logprob, chunks), strict=True):
        _backward_weighted(policy, rollouts, rows, factor * weights)
    for rows in _fillers(chunks, num_passes):
        _backward_weighted(policy, rollouts, rows, 0.0)
    total = _Total()
    total.add(out.value.detach(), out.metrics)
    return total.gradient(parts, batch)


def _split(values: Tensor, chunks: list[slice]) -> Iterator[Tensor]:
    flat = values.flatten(0, 1)
    return (flat[rows] for rows in chunks)


class _Total:
    """Sums of losses and metrics over micro-batches, in float64 and in order."""

    def __init__(self) -> None:
        self.loss = torch.zeros((), dtype=torch.float64)
        self.metrics: Metrics = {}

    def add(self, value: Tensor, metrics: Metrics) -> None:
        self.loss += value.double().cpu()
        for name, scalar in metrics.items():
            before = self.metrics.get(name, torch.zeros((), dtype=torch.float64))
            self.metrics[name] = before + scalar.detach().double().cpu()

    def gradient(self, parts: list[tuple[Tensor, Tensor]], batch: UpdateBatch) -> Gradient:
        shape = batch.response_mask.shape
        return Gradient(
            loss=float(self.loss),
            metrics=self.metrics,
            logprobs=torch.cat([part[0] for part in parts]).view(shape),
            entropy=torch.cat([part[1] for part in parts]).view(shape),
        )
