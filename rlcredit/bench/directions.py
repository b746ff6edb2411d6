"""Gradients of a large model, read along fixed random directions of its weights.

A linear layer y = W x is given an offset, y = W x + b (A x) with b = 0, so that d loss / d b is
(d loss / d W) A^T: the gradient of the layer's weights, seen through a random matrix A. Entries of
A have mean 0 and variance 1 / rank, so inner products of gradients are kept on average (Johnson &
Lindenstrauss 1984). What is read is then added up in buckets with random signs, which keeps them
too (Charikar, Chen & Farach-Colton 2002, doi:10.1007/3-540-45465-9_59). No weight needs a gradient
of its own, so nothing of the model's size is stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlcredit.types import Randomness


@dataclass(frozen=True, kw_only=True, eq=False)
class Directions:
    """The offsets of a model's linear layers, and the buckets that their gradients fall into."""

    inputs: dict[nn.Linear, Float[Tensor, "R I"]]
    """Layer -> A."""
    offsets: dict[nn.Linear, Float[Tensor, "O R"]]
    """Layer -> b, zero, the leaves that are differentiated."""
    buckets: Int[Tensor, " N"]
    """The bucket of each entry of all offsets."""
    signs: Float[Tensor, " N"]
    size: int
    """D, the number of buckets."""

    @classmethod
    def of(
        cls, model: nn.Module, *, rank: int = 8, size: int = 65536, seed: int = 0
    ) -> "Directions":
        """Random directions for every linear layer but the head, which shares the embedding.

        Args:
            model: Frozen while :meth:`attached`.
            rank: R, the directions of each layer.
            size: D, the buckets.
            seed: Of the directions and the buckets.

        Raises:
            ValueError: If the model has no linear layer besides its head.
        """
        generator = Randomness(seed=seed, step=0).generator("directions")
        head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
        layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head]
        if not layers:
            raise ValueError(f"{type(model).__name__} has no linear layer besides its head")
        inputs = {
            layer: (torch.randn(rank, layer.in_features, generator=generator) / rank**0.5).to(
                layer.weight
            )
            for layer in layers
        }
        offsets = {
            layer: layer.weight.new_zeros(layer.out_features, rank).requires_grad_()
            for layer in layers
        }
        total = sum(offset.numel() for offset in offsets.values())
        device = layers[0].weight.device
        return cls(
            inputs=inputs,
            offsets=offsets,
            buckets=torch.randint(size, (total,), generator=generator).to(device),
            signs=(2.0 * torch.randint(2, (total,), generator=generator) - 1).to(device),
            size=size,
        )

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Let the layers add their offsets, and differentiate nothing else, for a while."""
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        hooks = [layer.register_forward_hook(self._hook) for layer in self.offsets]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for parameter in trained:
                parameter.requires_grad_()

    def _hook(self, layer: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        return out + (args[0] @ self.inputs[layer].T) @ self.offsets[layer].T

    def gradient(self, value: Float[Tensor, ""], *, more: bool = False) -> Float[Tensor, " D"]:
        """The gradient of a value that was computed while :meth:`attached`.

        Args:
            value: Depends on the model.
            more: Whether other values of the same graph are differentiated afterwards.
        """
        parts = torch.autograd.grad(value, list(self.offsets.values()), retain_graph=more)
        flat = torch.cat([part.flatten() for part in parts]).double()
        return torch.zeros(self.size, dtype=torch.float64, device=flat.device).index_add_(
            0, self.buckets, flat * self.signs
        )
