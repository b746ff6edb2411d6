"""The policy that training started from, whose log-probs a loss holds the trained one to."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from peft import PeftModel
from peft.tuners.lora import LoraLayer

from rlcredit.policy.base import Policy, TokenLogprobs
from rlcredit.types import Rollouts


@runtime_checkable
class Reference(Protocol):
    """Frozen weights that score what the trained policy has written."""

    def logprobs(self, rollouts: Rollouts, rows: slice = slice(None)) -> TokenLogprobs:
        """Log-probs of the response tokens of rows of the flattened [P * G] batch."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class WithoutAdapters:
    """The trained policy with its adapters off: where only they are trained, the start.

    It needs no second copy of the weights.
    """

    policy: Policy
    """The trained policy; its weights may lie in parts."""
    adapters: PeftModel
    """The adapters inside it."""

    def logprobs(self, rollouts: Rollouts, rows: slice = slice(None)) -> TokenLogprobs:
        """Log-probs of the response tokens of rows of the flattened [P * G] batch."""
        with _off(self.adapters):
            return self.policy.logprobs(rollouts, rows)


@contextmanager
def _off(adapters: PeftModel) -> Iterator[None]:
    """Multiply what adapters add by 0.

    PEFT's own ``disable_adapter`` stops their gradients for the time, and weights in parts keep for
    good what the first call found of that.
    """
    layers = [layer for layer in adapters.modules() if isinstance(layer, LoraLayer)]
    for layer in layers:
        for name in layer.active_adapters:
            layer.set_scale(name, 0.0)
    try:
        yield
    finally:
        for layer in layers:
            for name in layer.active_adapters:
                layer.set_scale(name, 1.0)
