"""An update computed again, to see where its first value that is not finite arises.

First as the run computed it, then response by response (group by group for losses that couple a
group), with an eye on every module's input and output, the log-probs, the loss and the gradients.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import Policy
from rlcredit.trainer.backward import Gradient, accumulate, microbatches
from rlcredit.trainer.mismatch import mismatch_metrics
from rlcredit.trainer.refused import Refused
from rlcredit.types import Rollouts, UpdateBatch

Record = TypeVar("Record", Rollouts, UpdateBatch)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A tensor with values that are not finite."""

    where: str
    what: str
    """How many of its values, and what they are."""
    rows: tuple[int, ...] = ()
    """Of the flattened [P * G] batch; none where it belongs to no row."""


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
    """Of the whole update, before clipping."""
    kl_nats: float
    """Per token, between sampler and trainer."""
    given: tuple[Finding, ...]
    """In the weights and in the batch, before anything is computed."""
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
"""Of the responses listed by divergence."""


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
        first = _first(policy, loss, part, its_batch, on_policy=on_policy)
        if first is not None:
            where, what = first
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


def _first(
    policy: Policy, loss: PolicyLoss, rollouts: Rollouts, batch: UpdateBatch, *, on_policy: bool
) -> tuple[str, str] | None:
    """Compute the gradient of a part; the first tensor on the way that is not finite, if any."""
    watch = _Watch()
    policy.model.zero_grad(set_to_none=True)
    with watch.modules(policy.model):
        logprobs = policy.logprobs(rollouts).logprobs.view(batch.response_mask.shape)
        watch.look("the log-probabilities", logprobs)
        watch.await_gradient("the log-probabilities", logprobs)
        if on_policy:
            batch = replace(batch, old_logprobs=logprobs.detach())
        value = loss(logprobs, batch).value
        watch.look("the loss", value)
        value.backward()
    return watch.first


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
    """Remembers the first tensor that is not finite, in the order of computation."""

    first: tuple[str, str] | None = None
    """Where it is, and what it holds."""

    def look(self, where: str, value: Any) -> None:
        """Look at a tensor, or at those of a tuple; anything else is passed over."""
        for tensor in _tensors(value):
            what = described(tensor) if self.first is None else None
            if what is not None:
                self.first = (where, what)

    def await_gradient(self, where: str, value: Any) -> None:
        """Look at the gradients of a tensor, or of those of a tuple, as soon as they are there."""
        for tensor in _tensors(value):
            if tensor.requires_grad:
                tensor.register_hook(lambda grad: self.look(f"gradient at {where}", grad))

    @contextmanager
    def modules(self, model: nn.Module) -> Iterator[None]:
        """Look at every module without parts, and at the gradient of every parameter."""
        names = {m: name for name, m in model.named_modules() if not any(m.children())}
        trained = model.named_parameters()
        parameters: dict[Tensor, str] = {p: name for name, p in trained if p.requires_grad}

        def before(module: nn.Module, args: Any) -> None:
            if module in names:
                self.look(f"input of {names[module]}", args)

        def after(module: nn.Module, args: Any, output: Any) -> None:
            if module in names:
                self.look(f"output of {names[module]}", output)
                self.await_gradient(f"the output of {names[module]}", output)

        def arrived(parameter: Tensor) -> None:
            self.look(f"gradient of {parameters[parameter]}", parameter.grad)

        with ExitStack() as hooks:
            hooks.enter_context(register_module_forward_pre_hook(before))
            hooks.enter_context(register_module_forward_hook(after))
            for parameter in parameters:
                hooks.enter_context(parameter.register_post_accumulate_grad_hook(arrived))
            yield


def _tensors(value: Any) -> list[Tensor]:
    values = value if isinstance(value, tuple) else (value,)
    return [each for each in values if isinstance(each, Tensor)]


def described(tensor: Tensor) -> str | None:
    """How many values are not finite; None where all are."""
    tensor = tensor.detach()  # a graph of the look would not be there when layers are recomputed
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
