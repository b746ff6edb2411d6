"""AdamW with warm-up and decay, its step size a function of the step alone."""

import math
from dataclasses import dataclass
from enum import StrEnum, auto

import torch
from torch import nn


class Decay(StrEnum):
    """What the learning rate does after the warm-up."""

    constant = auto()
    linear = auto()
    cosine = auto()


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Settings of the optimizer (arXiv:1711.05101).

    The learning rate of step s (from 1) is ``lr * min(1, s / warmup_steps)`` times the decay, which
    ends at ``final_fraction * lr`` on the last step.
    """

    lr: float = 6e-4
    """Learning rate after the warm-up."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.95
    """Decay of the mean of squared gradients."""
    eps: float = 1e-8
    """Added to the root of the mean square."""
    weight_decay: float = 0.0
    """Share of the rate by which weights shrink; 0: none do."""
    warmup_steps: int = 5
    """Steps over which the rate rises from 0."""
    decay: Decay = Decay.constant
    final_fraction: float = 0.1
    """Share of the rate that is left on the last step, where it decays."""
    max_grad_norm: float = 1.0
    """Longest gradient; a longer one is scaled to it."""

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        if self.lr <= 0:
            raise ValueError(f"trainer.optimizer.lr={self.lr}: a learning rate is positive")
        if self.max_grad_norm <= 0:
            raise ValueError(
                f"trainer.optimizer.max_grad_norm={self.max_grad_norm}: clipping needs a positive "
                "norm; a very large one turns it off"
            )

    def build(self, model: nn.Module) -> torch.optim.AdamW:
        """The optimizer over the parameters that require a gradient."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        return torch.optim.AdamW(
            parameters,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def refuse_coarse(self, model: nn.Module) -> None:
        """Refuse to train weights in half precision.

        AdamW moves a weight by about ``lr``. A number w changes only where it is moved by half the
        distance to its neighbour, which is w * eps / 4 at least.

        Raises:
            ValueError: If a parameter that requires a gradient is coarser than float32.
        """
        for dtype in {p.dtype for p in model.parameters() if p.requires_grad}:
            eps = torch.finfo(dtype).eps
            if eps > torch.finfo(torch.float32).eps:
                raise ValueError(
                    f"the weights that are trained are {dtype}: a step of trainer.optimizer.lr="
                    f"{self.lr:g} is rounded away on every weight above {4 * self.lr / eps:.2g} "
                    f"(4 lr / {eps:.2g}); set policy.dtype=float32 (trainer.autocast=true still "
                    "computes in bfloat16), or train adapters, which are kept in float32 "
                    "(policy.lora.rank=32)"
                )

    def rate(self, step: int, num_steps: int) -> float:
        """Learning rate of one step, from 1 to ``num_steps``."""
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, num_steps - self.warmup_steps)
        remaining = {
            Decay.constant: 1.0,
            Decay.linear: 1.0 - done * (1.0 - self.final_fraction),
            Decay.cosine: self.final_fraction
            + (1.0 - self.final_fraction) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, done))),
        }
        return self.lr * remaining[self.decay]
