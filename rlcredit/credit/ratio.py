"""Importance ratios, ways of clipping them, sampler weights, and estimates of a KL divergence.

Everything is per token: masks are applied where tokens are summed up (``masked.py``), except in the
ratios, where a masked token must not make the exponential overflow.
"""

import math
from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.masked import full_precision, masked_mean, masked_sum


class KL(StrEnum):
    """Estimators of KL(policy || reference) from samples of the policy."""

    k1 = auto()
    k2 = auto()
    k3 = auto()
    k3_plus = auto()
    """The value of k3 with the gradient of k2; ``k3+`` in verl."""


class Cut(StrEnum):
    """What becomes of a weight above the limit: it is the limit, or its tokens count nothing."""

    truncate = auto()
    mask = auto()


class Unit(StrEnum):
    """What a sampler weight is taken over: each token alone, or the whole response."""

    token = auto()
    sequence = auto()


def token_log_ratio(
    logprobs: Float[Tensor, "*batch T"],
    old_logprobs: Float[Tensor, "*batch T"],
    mask: Bool[Tensor, "*batch T"],
) -> Float[Tensor, "*batch T"]:
    """The difference log pi(y_t) - log pi_old(y_t) in nats, 0 on masked tokens (standard)."""
    return torch.where(mask, full_precision(logprobs) - full_precision(old_logprobs), 0)


def token_ratio(
    logprobs: Float[Tensor, "*batch T"],
    old_logprobs: Float[Tensor, "*batch T"],
    mask: Bool[Tensor, "*batch T"],
) -> Float[Tensor, "*batch T"]:
    """Importance ratio of each token; 1 on masked tokens.

    rho_t = pi(y_t) / pi_old(y_t)      PPO, arXiv:1707.06347, section 3

    Args:
        logprobs: Under the current policy, in nats; differentiable.
        old_logprobs: Under the policy before the batch's first update, in nats.
        mask: True on response tokens.

    Returns:
        One ratio per token, in at least float32.
    """
    return token_log_ratio(logprobs, old_logprobs, mask).exp()


def sequence_ratio(
    logprobs: Float[Tensor, "*batch T"],
    old_logprobs: Float[Tensor, "*batch T"],
    mask: Bool[Tensor, "*batch T"],
) -> Float[Tensor, "*batch T"]:
    """Length-normalised importance ratio of the response, on each of its tokens; 1 elsewhere.

    s = (pi(y) / pi_old(y))^(1/|y|)      GSPO, arXiv:2507.18071, Eq. 7

    Args:
        logprobs: Under the current policy, in nats; differentiable.
        old_logprobs: Under the policy before the batch's first update, in nats.
        mask: True on response tokens.

    Returns:
        The response's ratio on every token of it, in at least float32.
    """
    log_ratio = masked_mean(token_log_ratio(logprobs, old_logprobs, mask), mask, keepdim=True)
    return torch.where(mask, log_ratio, 0).exp()


def clipped_surrogate(
    ratio: Float[Tensor, "*batch"],
    advantages: Float[Tensor, "*batch"],
    *,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, "*batch"]:
    """PPO's pessimistic objective, as a loss per token.

    l = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)      arXiv:1707.06347, Eq. 7

    Unequal clips are DAPO's clip-higher (arXiv:2503.14476, section 3.1).

    Args:
        ratio: Importance ratios; differentiable.
        advantages: Of the same tokens.
        clip_low: How far below 1 a ratio still has a gradient.
        clip_high: How far above 1.

    Returns:
        Losses per token.
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def dual_clip(
    losses: Float[Tensor, "*batch"], advantages: Float[Tensor, "*batch"], *, bound: float
) -> Float[Tensor, "*batch"]:
    """Losses of bad tokens, held below a bound.

    l' = min(l, -bound * A)  where A < 0, else l      dual-clip PPO, arXiv:1912.09729

    Args:
        losses: From :func:`clipped_surrogate`.
        advantages: Of the same tokens.
        bound: The largest ratio that a token with a negative advantage is charged with; above 1.

    Returns:
        Losses per token.
    """
    return torch.where(advantages < 0, torch.minimum(losses, -bound * advantages), losses)


def cispo_weight(
    ratio: Float[Tensor, "*batch"], *, clip_high: float, clip_low: float | None = None
) -> Float[Tensor, "*batch"]:
    """Clipped importance weights without a gradient.

    w = stop_gradient(clip(rho, 1 - clip_low, 1 + clip_high))      CISPO, arXiv:2506.13585, Eq. 4-5

    The loss is -w A log pi: every token keeps a gradient. As in the paper, there is no lower clip
    unless one is given.

    Args:
        ratio: Importance ratios.
        clip_high: How far above 1 a weight may be.
        clip_low: How far below 1; None: any weight above 0.

    Returns:
        Weights per token, detached.
    """
    low = None if clip_low is None else 1 - clip_low
    return ratio.detach().clamp(min=low, max=1 + clip_high)


def kl_estimate(
    logprobs: Float[Tensor, "*batch"], ref_logprobs: Float[Tensor, "*batch"], *, kind: KL = KL.k3
) -> Float[Tensor, "*batch"]:
    """Estimate of KL(policy || reference) at each sampled token, in nats.

    With d = log pi_ref - log pi:  k1 = -d,  k2 = d^2 / 2,  k3 = e^d - d - 1
    (Schulman, http://joschu.net/blog/kl-approx.html; GRPO uses k3, arXiv:2402.03300, Eq. 4).
    k1 and k3 are unbiased under samples of the policy; k2 and k3 are never negative.

    An unbiased value need not have an unbiased gradient (derived here): under samples of the policy
    E[grad k1] = E[grad log pi] = 0, E[grad k2] = -E[d grad log pi] = grad KL(pi || pi_ref), and
    E[grad k3] = E[(1 - e^d) grad log pi] = -E_ref[grad log pi] = grad KL(pi_ref || pi). k3_plus has
    the value of k3 and the gradient of k2 (straight-through).

    Args:
        logprobs: Under the current policy; differentiable.
        ref_logprobs: Under the reference policy.
        kind: Which estimator.

    Returns:
        One estimate per token, in at least float32.
    """
    difference = full_precision(ref_logprobs) - full_precision(logprobs)
    match kind:
        case KL.k1:
            return -difference
        case KL.k2:
            return difference.square() / 2
        case KL.k3:
            return difference.exp() - difference - 1
        case KL.k3_plus:
            value = (difference.exp() - difference - 1).detach()
            slope = difference.square() / 2
            return value + (slope - slope.detach())


def sampler_weights(
    old_logprobs: Float[Tensor, "*batch T"],
    rollout_logprobs: Float[Tensor, "*batch T"],
    mask: Bool[Tensor, "*batch T"],
    *,
    cut: Cut,
    unit: Unit,
    limit: float,
) -> Float[Tensor, "*batch T"]:
    """Weights that correct for a sampler whose probabilities are not quite the trainer's.

    w_t = pi_old(y_t) / mu(y_t)        unit=token; the product over the response, unit=sequence

    cut=truncate gives min(w, limit), the truncated importance sampling of Ionides (2008, Truncated
    Importance Sampling, Eq. 3; standard); cut=mask gives w where w <= limit and 0 elsewhere, so
    that what the sampler drew far too seldom is left out. Both are 1 where pi_old = mu.

    Args:
        old_logprobs: Under the trainer's policy before the batch's first update, in nats.
        rollout_logprobs: Under the sampler mu, in nats.
        mask: True on response tokens.
        cut: What becomes of weights above the limit.
        unit: What a weight is taken over.
        limit: The largest weight; at least 1.

    Returns:
        Weights per token, detached, in at least float32; 1 on masked tokens.
    """
    log_ratio = token_log_ratio(old_logprobs.detach(), rollout_logprobs.detach(), mask)
    if unit == Unit.sequence:
        log_ratio = masked_sum(log_ratio, mask, keepdim=True).expand_as(log_ratio)
    # the exponential of anything above the limit is not needed, and could overflow
    above = log_ratio > math.log(limit)
    kept = log_ratio.masked_fill(above, 0).exp()
    weights = kept.masked_fill(above, limit if cut == Cut.truncate else 0)
    return torch.where(mask, weights, 1)


def effective_share(
    old_logprobs: Float[Tensor, "*batch T"],
    rollout_logprobs: Float[Tensor, "*batch T"],
    mask: Bool[Tensor, "*batch T"],
) -> Float[Tensor, ""]:
    """Effective sample size of a sampler's tokens over their number, in (0, 1].

    (sum w)^2 / (N sum w^2)  with w = pi_old / mu per token      Kish (1965); standard

    Args:
        old_logprobs: Under the trainer's policy, in nats.
        rollout_logprobs: Under the sampler mu, in nats.
        mask: True on the N tokens that count.

    Returns:
        The share; 1 where no token counts.
    """
    log_ratio = token_log_ratio(old_logprobs, rollout_logprobs, mask)[mask].double()
    if not len(log_ratio):
        return torch.ones((), dtype=torch.float64, device=mask.device)
    weights = (log_ratio - log_ratio.max()).exp()  # the share does not change with their scale
    return weights.sum().square() / (len(weights) * weights.square().sum())
