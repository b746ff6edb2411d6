"""An update computed again, to see where its first value that is not finite arises.

First as the run computed it, then response by response (group by group for losses that couple a
group), with an eye on every module's input and output, the log-probs, the loss and the gradients.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rlcredit.losses.base import PolicyLoss, WrappedLoss
from rlcredit.policy.base import Policy
from rlcredit.trainer.backward import Gradient, accumulate, microbatches
from rlcredit.trainer.mismatch import mismatch_metrics
from rlcredit.trainer.refused import Refused
from rlcredit.types import Loss, Rollouts, UpdateBatch

Record = TypeVar("Record", Rollouts, UpdateBatch)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A tensor with values that are not finite."""

    where: str
    what: str
    """How many of its values, and what they are."""
    rows: tuple[int, ...] = ()
    """Rows of the flattened [P * G] batch; none where it belongs to no row."""


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """How far a response's sampler and trainer are apart."""

    row: int
    max_abs_logprob: float
    token: int
    """Index in the response of the largest difference."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What computing an update again has shown."""

    loss: float
    grad_norm: float
    """Norm of the whole update's gradient, before clipping."""
    kl_nats: float
    """Divergence per token between sampler and trainer."""
    given: tuple[Finding, ...]
    """Findings in the weights and in the batch, before anything is computed."""
    first: tuple[Finding, ...]
    """The first tensor that is not finite, with all rows for which it is the first; what it holds
    is told of the first of them."""
    furthest: tuple[Divergence, ...]
    """The responses whose sampler is furthest from the trainer, the furthest first."""

    @property
    def finite(self) -> bool:
        """Does the update compute?"""
        return bool(torch.isfinite(torch.tensor([self.loss, self.grad_norm])).all())


MOST_ROWS = 5
"""Largest number of responses that are listed by divergence."""


def replay(policy: Policy, loss: PolicyLoss, refused: Refused, *, tokens: int) -> Replay:
    """Compute an update again; gradients are left at None, weights as they are.

    Args:
        policy: With the weights that the batch met.
        loss: That was trained on, its correction included.
        refused: The batch.
        tokens: In a micro-batch of the run.
    """
    rollouts, batch, on_policy = refused.rollouts, refused.batch, refused.update == 0
    policy.model.zero_grad(set_to_none=True)
    chunks = microbatches(rollouts, tokens, packing=policy.packing)
    whole = accumulate(policy, loss, rollouts, batch, chunks=chunks, on_policy=on_policy)
    norm = torch.nn.utils.get_total_norm(
        [p.grad for p in policy.model.parameters() if p.grad is not None]
    )
    found: dict[str, tuple[str, list[int]]] = {}
    for rows, part, its_batch in _units(loss, rollouts, batch):
        watch = _Watch()
        policy.model.zero_grad(set_to_none=True)
        with watch.modules(policy.model):
            accumulate(
                policy,
                _WatchedLoss(loss=loss, watch=watch),
                part,
                its_batch,
                chunks=[slice(0, len(rows))],
                on_policy=on_policy,
            )
        if watch.first is not None:
            where, what = watch.first
            found.setdefault(where, (what, []))[1].extend(rows)
    policy.model.zero_grad(set_to_none=True)
    return Replay(
        loss=whole.loss,
        grad_norm=float(norm),
        kl_nats=float(mismatch_metrics(whole.logprobs, batch)["mismatch/kl_nats"]),
        given=(*_given_weights(policy.model), *_given_values(batch)),
        first=tuple(
            Finding(where=where, what=what, rows=tuple(rows))
            for where, (what, rows) in found.items()
        ),
        furthest=_furthest(whole, batch),
    )


def _units(
    loss: PolicyLoss, rollouts: Rollouts, batch: UpdateBatch
) -> Iterator[tuple[range, Rollouts, UpdateBatch]]:
    """The smallest parts whose gradients add up to the update's, and their rows."""
    num_prompts, group_size = batch.response_mask.shape[:2]
    size = group_size if loss.couples_group else 1
    for row in range(0, num_prompts * group_size, size):
        prompt, first = divmod(row, group_size)
        cell = slice(prompt, prompt + 1), slice(first, first + size)
        yield range(row, row + size), _cut(rollouts, *cell), _cut(batch, *cell)


PER_PROMPT = {"prompts", "prompt_ids", "prompt_mask"}
"""Fields without an axis of responses."""


def _cut(record: Record, prompts: slice, responses: slice) -> Record:
    """Some responses to some prompts; counts stay those of the whole update."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    cut: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            cut[name] = value[prompts] if name in PER_PROMPT else value[prompts, responses]
        elif isinstance(value, tuple):
            part = value[prompts]
            cut[name] = part if name in PER_PROMPT else tuple(texts[responses] for texts in part)
    return replace(record, **cut)


@dataclass(kw_only=True)
class _Watch:
    """Remembers the first tensor that is not finite."""

    first: tuple[str, str] | None = None
    handles: list[Any] = field(default_factory=list)

    def look(self, where: str, value: Any) -> None:
        """Look at a tensor, or at the tensors of a tuple; anything else is passed over."""
        for tensor in value if isinstance(value, tuple) else (value,):
            if self.first is None and isinstance(tensor, Tensor):
                what = described(tensor)
                if what is not None:
                    self.first = (where, what)

    def gradient(self, where: str, value: Any) -> None:
        """Look at the gradient when it arrives."""
        for tensor in value if isinstance(value, tuple) else (value,):
            if isinstance(tensor, Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda grad: self.look(f"gradient at {where}", grad))

    @contextmanager
    def modules(self, model: nn.Module) -> Iterator[None]:
        """Look at every module without parts, and at the gradient of every parameter."""
        with ExitStack() as stack:
            for name, module in model.named_modules():
                if not any(module.children()):
                    before, after = self._hooks(name)
                    stack.enter_context(_removed(module.register_forward_pre_hook(before)))
                    stack.enter_context(_removed(module.register_forward_hook(after)))
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    hook = self._arrived(name)
                    handle = parameter.register_post_accumulate_grad_hook(hook)
                    stack.enter_context(_removed(handle))
            yield

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.look(f"input of {name}", args)

        def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self.look(f"output of {name}", output)
            self.gradient(f"the output of {name}", output)

        return before, after

    def _arrived(self, name: str) -> Callable[[Tensor], None]:
        return lambda parameter: self.look(f"gradient of {name}", parameter.grad)


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@dataclass(frozen=True, kw_only=True)
class _WatchedLoss(WrappedLoss):
    """Another loss, whose input, value and gradient are looked at."""

    watch: _Watch

    def __call__(self, logprobs: Float[Tensor, "P G T"], batch: UpdateBatch) -> Loss:
        self.watch.look("the log-probabilities", logprobs)
        self.watch.gradient("the log-probabilities", logprobs)
        out = self.loss(logprobs, batch)
        self.watch.look("the loss", out.value)
        return out


def described(tensor: Tensor) -> str | None:
    """How many values are not finite; None where all are."""
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor).all()):
        return None
    nan, total = int(torch.isnan(tensor).sum()), tensor.numel()
    infinite = int(torch.isinf(tensor).sum())
    return f"{nan} NaN and {infinite} infinite of {total:,} values"


def _given_weights(model: nn.Module) -> Iterator[Finding]:
    for name, parameter in model.named_parameters():
        what = described(parameter.detach())
        if what is not None:
            yield Finding(where=f"parameter {name}", what=what)


def _given_values(batch: UpdateBatch) -> Iterator[Finding]:
    for each in fields(batch):
        value = getattr(batch, each.name)
        what = described(value) if isinstance(value, Tensor) else None
        if what is not None:
            bad = (~torch.isfinite(value)).flatten(0, 1).any(-1)
            yield Finding(where=each.name, what=what, rows=tuple(bad.nonzero().flatten().tolist()))


def _furthest(whole: Gradient, batch: UpdateBatch) -> tuple[Divergence, ...]:
    gap = (whole.logprobs - batch.rollout_logprobs).abs()
    gap = torch.where(batch.response_mask, gap, 0.0).flatten(0, 1).nan_to_num(nan=torch.inf)
    largest, tokens = gap.max(-1)
    order = largest.argsort(descending=True, stable=True)[:MOST_ROWS].tolist()
    return tuple(
        Divergence(row=row, max_abs_logprob=float(largest[row]), token=int(tokens[row]))
        for row in order
    )
