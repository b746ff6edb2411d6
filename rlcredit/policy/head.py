"""Log-probabilities and entropy straight from hidden states, a few rows of logits at a time.

Peak memory is that of one chunk of logits, whatever the vocabulary and the number of tokens: the
backward pass computes each chunk again. ``causal_lm.token_logprobs`` is the plain version.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function

CHUNK_CELLS = 2**20
"""Logits in a chunk: 4 MB in float32. Larger blocks are mapped into memory anew each time."""


def head_logprobs(
    hidden: Float[Tensor, "H D"],
    weight: Float[Tensor, "V D"],
    rows: Int[Tensor, " n"],
    targets: Int[Tensor, " n"],
    *,
    temperature: float,
    chunk: int | None = None,
    squares: bool = False,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " H"], Float[Tensor, " _"]]:
    """Log-probs of tokens under softmax(hidden @ weight.T / temperature), and each row's entropy.

    Args:
        hidden: Last hidden states.
        weight: Of the head. Under autocast both are cast to its type.
        rows: Row of ``hidden`` of each target, ascending; a row may have several targets.
        targets: Token ids.
        temperature: Divides the logits.
        chunk: Rows at a time; None: as many as make :data:`CHUNK_CELLS` logits.
        squares: Sum up each row's squared probabilities.

    Returns:
        Log-probs in nats, differentiable, in at least float32; entropy in nats, detached; and the
        sum of each row's squared probabilities, detached, empty where it is not asked for.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind):
        hidden, weight = (x.to(torch.get_autocast_dtype(kind)) for x in (hidden, weight))
    chunk = chunk or max(1, CHUNK_CELLS // weight.shape[0])
    found: Any = _HeadLogprobs.apply(hidden, weight, rows, targets, temperature, chunk, squares)
    return found


class _HeadLogprobs(Function):
    """d log p(y) / d logits = onehot(y) - p."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        rows: Tensor,
        targets: Tensor,
        temperature: float,
        chunk: int,
        squares: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Chunk by chunk; only the normaliser of each row is kept."""
        wide = torch.promote_types(hidden.dtype, torch.float32)
        count = len(hidden)
        normaliser, entropy = (hidden.new_empty(count, dtype=wide) for _ in range(2))
        squared = hidden.new_empty(count if squares else 0, dtype=wide)
        chosen = hidden.new_empty(len(targets), dtype=wide)
        starts = torch.arange(0, count + chunk, chunk, device=rows.device).clamp(max=count)
        bounds = torch.searchsorted(rows, starts).tolist()
        for number, start in enumerate(range(0, count, chunk)):
            part = slice(start, min(start + chunk, count))
            of = slice(bounds[number], bounds[number + 1])
            logits = _logits(hidden[part], weight, temperature, wide)
            chosen[of] = logits[rows[of] - start, targets[of]]
            normaliser[part] = logits.logsumexp(-1)
            every = logits.sub_(normaliser[part, None])
            entropy[part] = -(every.exp() * every).sum(-1)
            if squares:
                squared[part] = every.mul_(2).exp_().sum(-1)
        ctx.save_for_backward(hidden, weight, rows, targets, normaliser)
        ctx.settings = temperature, chunk, bounds, wide
        ctx.mark_non_differentiable(entropy, squared)
        return chosen - normaliser[rows], entropy, squared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Chunk by chunk again; a frozen head gets no gradient."""
        hidden, weight, rows, targets, normaliser = ctx.saved_tensors
        temperature, chunk, bounds, wide = ctx.settings
        by_target = grads[0].to(wide) / temperature
        by_hidden = torch.empty_like(hidden)
        by_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        for number, start in enumerate(range(0, len(hidden), chunk)):
            part = slice(start, min(start + chunk, len(hidden)))
            of = slice(bounds[number], bounds[number + 1])
            logits = _logits(hidden[part], weight, temperature, wide)
            by_logit = logits.sub_(normaliser[part, None]).exp_()
            local = rows[of] - start
            total = by_target.new_zeros(len(by_logit)).index_add_(0, local, by_target[of])
            by_logit.mul_(-total[:, None])
            by_logit.index_put_((local, targets[of]), by_target[of], accumulate=True)
            by_logit = by_logit.to(weight.dtype)
            torch.mm(by_logit, weight, out=by_hidden[part])
            if by_weight is not None and weight.dtype == wide:
                by_weight.addmm_(by_logit.t(), hidden[part])
            elif by_weight is not None:
                by_weight += by_logit.t() @ hidden[part]
        by_weight = None if by_weight is None else by_weight.to(weight.dtype)
        return by_hidden, by_weight, None, None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, temperature: float, wide: torch.dtype) -> Tensor:
    logits = (hidden @ weight.t()).to(wide)
    return logits if temperature == 1 else logits.div_(temperature)
