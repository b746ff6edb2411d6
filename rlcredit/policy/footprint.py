"""What a model needs of memory, counted without its weights, before anything is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel

from rlcredit.policy.attention import NAME, no_mask, obstacle, product_dtype

_FEW, _MORE = 64, 128
"""Tokens of the two passes whose difference is what a token costs."""


class Phase(StrEnum):
    """When something lies in memory."""

    always = auto()
    sampling = auto()
    update = auto()


@dataclass(frozen=True, kw_only=True)
class MemoryLine:
    """One thing that lies in a process's memory."""

    what: str
    num_bytes: int
    phase: Phase = Phase.always


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Sizes of a model."""

    numbers: int
    """Parameters, trained or not; tied ones once."""
    weight_bytes: int
    """Of all parameters, in their own number formats."""
    trained_numbers: int
    trained_bytes: int
    """Of those that require a gradient."""
    unit_numbers: int
    """Parameters of the largest part that sharded processes gather at once: a layer, or embeddings
    and head."""
    cache_numbers: int
    """Keys and values of one token, of all layers."""
    hidden_size: int
    vocabulary: int
    dtype: torch.dtype
    """Format that the model computes in."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> "Footprint":
        """Count the parameters of a model, which may lie on the meta device."""
        parameters = list(model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        names = set(model._no_split_modules or [])
        layers = [module for module in model.modules() if type(module).__name__ in names]
        by_layer = [sum(p.numel() for p in layer.parameters()) for layer in layers]
        numbers = sum(p.numel() for p in parameters)
        config: Any = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            numbers=numbers,
            weight_bytes=sum(p.numel() * p.element_size() for p in parameters),
            trained_numbers=sum(p.numel() for p in trained),
            trained_bytes=sum(p.numel() * p.element_size() for p in trained),
            unit_numbers=max([*by_layer, numbers - sum(by_layer)]),
            cache_numbers=2 * config.num_hidden_layers * heads * size,
            hidden_size=config.hidden_size,
            vocabulary=config.vocab_size,
            dtype=model.dtype,
        )


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What autograd keeps of a forward pass for its backward pass, the head left out."""

    bytes_per_token: int
    once_bytes: int
    """Whatever the number of tokens: weights that autocast has cast."""


def kept_by_autograd(model: PreTrainedModel, *, autocast: bool) -> Kept:
    """Run a model of the meta device on tokens without numbers, and count what is kept.

    With gradient checkpointing, which is the model's own setting, these are the layers' inputs.

    Args:
        model: On the meta device; its parameters are replaced by others without numbers.
        autocast: Products in bfloat16, as ``trainer.autocast`` has them.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    _fake(model, mode)
    if obstacle(model) is None:
        model.set_attn_implementation(NAME)
    few, more = (_kept_bytes(model, mode, length, autocast=autocast) for length in (_FEW, _MORE))
    slope = (more - few) // (_MORE - _FEW)
    return Kept(bytes_per_token=slope, once_bytes=few - slope * _FEW)


class _Causal:
    """Attention of one row, whose kernel keeps queries, keys, values and output alone."""

    def attend(
        self,
        q: Float[Tensor, "B H N D"],
        k: Float[Tensor, "B K N D"],
        v: Float[Tensor, "B K N D"],
        *,
        layer: int,
        scale: float,
    ) -> Float[Tensor, "B N H D"]:
        """Attend to all tokens before."""
        del layer
        q, k, v = (x.to(product_dtype(q)) for x in (q, k, v))
        out = scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
        return out.transpose(1, 2)


def _kept_bytes(
    model: PreTrainedModel, mode: FakeTensorMode, length: int, *, autocast: bool
) -> int:
    decoder: Any = model.get_decoder()
    shared = obstacle(model) is None
    with mode, _counting(model) as found, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ids = torch.zeros(1, length, dtype=torch.long)
        places = torch.arange(length)[None]
        layout = {"attention_mask": no_mask(ids.device), "layout": _Causal()} if shared else {}
        out = decoder(input_ids=ids, position_ids=places, use_cache=False, **layout)
        del out
    return sum(found.values())


@contextmanager
def _counting(model: nn.Module) -> Iterator[dict[int, int]]:
    """Inside, every storage that autograd keeps is noted with its bytes, the weights' own aside."""
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    found: dict[int, int] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            found[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


def _fake(model: nn.Module, mode: FakeTensorMode) -> None:
    """Replace parameters and buffers by tensors that have shapes and a device, and no numbers."""
    made: dict[int, nn.Parameter] = {}
    cpu = torch.device("cpu")
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                if id(parameter) not in made:
                    fake = FakeTensor(mode, parameter.detach().to("meta"), cpu)
                    made[id(parameter)] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
                module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer.detach().to("meta"), cpu)
