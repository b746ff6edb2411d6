"""Listwise distributions over a group's rollouts: targets, divergences, projection coefficients."""

import math
from enum import StrEnum, auto

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.masked import full_precision


class Divergence(StrEnum):
    """What is minimised between the policy's listwise distribution P and the target w."""

    forward_kl = auto()
    reverse_kl = auto()
    jensen_shannon = auto()


def listwise_target(
    advantages: Float[Tensor, "P K"], *, anchor_logits: Float[Tensor, "P K"]
) -> Float[Tensor, "P K"]:
    """The distribution that maximises expected reward at a price for leaving the anchor.

    w* = softmax(A + s_t)      LPO, arXiv:2605.06139, Eq. 7

    The paper's R / tau may be any A = (R - b) / tau, for softmax ignores a shift: GRPO's advantages
    give tau = std (up to its eps), Dr. GRPO's tau = 1, MaxRL's tau = mean.

    Args:
        advantages: Of the rollouts.
        anchor_logits: s_t, log-ratios of the policy before the update to the sampling policy; zeros
            where the two are the same.

    Returns:
        One weight per rollout, which sum to 1 over the group.
    """
    return (full_precision(advantages) + anchor_logits).softmax(dim=-1)


def divergence(
    logits: Float[Tensor, "P K"], *, target_logits: Float[Tensor, "P K"], kind: Divergence
) -> Float[Tensor, " P"]:
    """Divergence of softmax(logits), P, from softmax(target_logits), w, in nats (standard).

    forward_kl: KL(w || P); reverse_kl: KL(P || w); jensen_shannon: the mean of KL(P || m) and
    KL(w || m), m = (P + w) / 2.
    """
    log_p, log_w = _log_softmaxes(logits, target_logits)
    match kind:
        case Divergence.forward_kl:
            return (log_w.exp() * (log_w - log_p)).sum(dim=-1)
        case Divergence.reverse_kl:
            return (log_p.exp() * (log_p - log_w)).sum(dim=-1)
        case Divergence.jensen_shannon:
            log_m = torch.logaddexp(log_p, log_w) - math.log(2)
            both = log_p.exp() * (log_p - log_m) + log_w.exp() * (log_w - log_m)
            return both.sum(dim=-1) / 2


def projection_coefficients(
    logits: Float[Tensor, "P K"],
    *,
    target_logits: Float[Tensor, "P K"],
    divergence: Divergence = Divergence.forward_kl,
) -> Float[Tensor, "P K"]:
    """Gradient of the divergence to the target in the logits: the weight of each rollout's own.

    c_k = P_k [dL/dP_k - sum_j P_j dL/dP_j]      LPO, arXiv:2605.06139, App. C.6

    forward_kl: c = P - w (Eq. 10), within [-1, 1]. reverse_kl: c = P (d - sum_j P_j d_j) with
    d = log P - log w (Eq. 11). jensen_shannon: dL/dP = log(P / m) / 2, m = (P + w) / 2. For each of
    them c sums to zero over the group and vanishes at P = w.

    Args:
        logits: s, log-ratios of the current policy to the sampling policy; a shift changes nothing.
        target_logits: A + anchor; a shift changes nothing.
        divergence: What is minimised.

    Returns:
        One coefficient per rollout, in at least float32.
    """
    # dP_j / ds_k = P_j (1[j = k] - P_k), so the gradient of any L(P) in the logits is
    # P (slope - sum_j P_j slope_j) with slope = dL/dP, in which constants cancel.
    log_p, log_w = _log_softmaxes(logits, target_logits)
    p = log_p.exp()
    match divergence:
        case Divergence.forward_kl:  # slope = -w / P; multiplied out, nothing is divided by P
            return p - log_w.exp()
        case Divergence.reverse_kl:
            slope = log_p - log_w
        case Divergence.jensen_shannon:
            slope = (log_p - torch.logaddexp(log_p, log_w) + math.log(2)) / 2
    return p * (slope - (p * slope).sum(dim=-1, keepdim=True))


def _log_softmaxes(logits: Tensor, target_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the policy's and the target's listwise distributions."""
    return (
        full_precision(logits).log_softmax(dim=-1),
        full_precision(target_logits).log_softmax(dim=-1),
    )
