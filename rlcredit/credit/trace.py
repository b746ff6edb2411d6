"""Eligibility traces over the tokens of a response, and the weights that they amount to."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad

from rlcredit.credit.masked import full_precision, masked_mean


def traced_log_ratio(
    log_ratio: Float[Tensor, "*batch T"], mask: Bool[Tensor, "*batch T"], *, decay: float
) -> Float[Tensor, "*batch T"]:
    """The decayed sum of the log-ratios of the tokens up to each one; 0 on masked tokens.

    s_t = sum_{l=0}^{t} decay^l x_{t-l},   decay = gamma lambda      GRPO-lambda, arXiv:2510.00194

    Tokens alone are counted: what is masked between two of them does not decay the sum. decay = 0
    is the token's own log-ratio, decay = 1 that of the prefix. A scan of log2(T) sums.

    Args:
        log_ratio: log pi - log pi_old, in nats; differentiable.
        mask: True on response tokens.
        decay: From 0 to 1.

    Returns:
        One sum per token, in at least float32.
    """
    there, order = (~mask).to(torch.uint8).sort(dim=-1, stable=True)
    total = torch.where(mask, full_precision(log_ratio), 0).gather(-1, order)
    shift = 1
    while shift < total.shape[-1] and decay**shift > 0:
        total = total + decay**shift * pad(total, (shift, 0))[..., :-shift]
        shift *= 2
    total = torch.where(there == 0, total, 0)
    return torch.zeros_like(total).scatter(-1, order, total)


def trace_weights(mask: Bool[Tensor, "*batch T"], *, decay: float) -> Float[Tensor, "*batch T"]:
    """How often a token's gradient enters the traces of its own and later tokens; 0 where masked.

    w_t = sum_{l=0}^{T-t} decay^l = (1 - decay^{T-t+1}) / (1 - decay)

    Derived here: on-policy every ratio is 1 and has the gradient of its log, so with one advantage
    A per response grad sum_t exp(s_t) A = A sum_t w_t grad log pi(y_t): a weighting of places,
    which favours early tokens.

    Args:
        mask: True on the tokens that count.
        decay: From 0 to 1.

    Returns:
        Weights of 1 and more, in float64.
    """
    to_come = mask.flip(-1).long().cumsum(dim=-1).flip(-1).double()
    weights = to_come if decay == 1 else (1 - decay**to_come) / (1 - decay)
    return torch.where(mask, weights, 0)


def over_mean(
    weights: Float[Tensor, "*batch T"], mask: Bool[Tensor, "*batch T"]
) -> Float[Tensor, "*batch T"]:
    """Weights over their mean in each response (standard); as they are where that mean is 0."""
    mean = masked_mean(weights, mask, keepdim=True)
    return weights / torch.where(mean > 0, mean, 1)
