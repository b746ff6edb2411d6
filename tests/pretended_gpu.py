"""A GPU that is only said to be one: tensors that name another device, and compute on the CPU.

An operation on tensors of both devices is refused as CUDA refuses it, so that whatever is made on
the wrong device stops a test. Kernels, streams and graphs are not pretended.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

NAME = "pretended"
CROSSES = {"aten::copy_", "aten::_to_copy"}
"""Operations that move numbers between devices."""
INDEXES = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_unsafe_index_put"}
"""Operations whose indices may lie on the CPU."""


class OnGPU(Tensor):
    """Says that it lies on the other device; ``inner`` has its numbers."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnGPU":
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents=None) -> str:
        return f"OnGPU({tuple(self.shape)})"

    def tolist(self):
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class PretendedGPU(TorchDispatchMode):
    """Makes tensors there where they are asked for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


class FromNumbers(TorchFunctionMode):
    """``torch.tensor(numbers, device=...)``, which no dispatch mode sees."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = torch.device(kwargs.get("device") or "cpu").type == NAME
        if there and func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        if func is Tensor.new_tensor and isinstance(args[0], OnGPU):
            return torch.tensor(args[1], **{"dtype": args[0].dtype, **kwargs}).to(args[0].device)
        return func(*args, **kwargs)


def _run(func, args, kwargs):
    name = func._schema.name
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = [x for x in tensors if isinstance(x, OnGPU)]
    asked = kwargs.get("device")
    if asked is not None:
        asked = torch.device(asked).type
        kwargs = {**kwargs, "device": torch.device("cpu")} if asked != "meta" else kwargs
    if there and name not in CROSSES | INDEXES:
        mixed = [x for x in tensors if not isinstance(x, OnGPU) and x.ndim]
        if mixed:
            raise RuntimeError(f"{name}: tensors on the GPU and on the CPU, {mixed[0].shape}")
    known = {id(x.inner): x for x in there}
    plain_args, plain_kwargs = tree_map(_inner, (args, kwargs))
    out = func(*plain_args, **plain_kwargs)
    stays = asked == NAME if asked is not None else bool(there)
    if name == "aten::copy_":
        return args[0]
    return tree_map(lambda x: known[id(x)] if id(x) in known else _outer(x, stays), out)


def _inner(value):
    return value.inner if isinstance(value, OnGPU) else value


def _outer(value, there: bool):
    return OnGPU(value) if there and isinstance(value, Tensor) else value


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0


@cache
def _registered() -> torch.device:
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    return torch.device(NAME, 0)


@contextmanager
def pretended() -> Iterator[torch.device]:
    """Inside, the device is there."""
    device = _registered()
    with FromNumbers(), PretendedGPU():
        yield device
