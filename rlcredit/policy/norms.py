"""Norms of float64 models in float64."""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm


def exact_norms(model: nn.Module) -> None:
    """Let the RMS norms of a float64 model compute in float64, for good.

    transformers' norms pass through float32 whatever the model's type. Then two layouts of the same
    tokens, which add gradients in another order, differ by 5e-8 instead of 1e-15.
    """
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm | Qwen2RMSNorm | Qwen3RMSNorm):
            module.forward = MethodType(_forward, module)


def _forward(self: Any, hidden_states: Tensor) -> Tensor:
    square = hidden_states.square().mean(-1, keepdim=True)
    return self.weight * (hidden_states * torch.rsqrt(square + self.variance_epsilon))
