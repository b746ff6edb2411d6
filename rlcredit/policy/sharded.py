"""A policy whose weights lie in parts on the processes of a run (FSDP2, arXiv:2304.11277).

FSDP gathers a layer's weights when the layer is called, and every process must call it as often.
So log-probs are one call of one module, in which every weight is used, and sampling, where each
process takes as many steps as its own responses need, happens in a plain twin of the model: its
weights are gathered before and dropped after. Rejected: ``unshard()`` around the rollout. A layer
drops what was gathered for it at the end of its first call, whoever gathered it, so that the second
token waits for processes that may have no more tokens to draw.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from peft import PeftModel
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlcredit.distributed.world import World
from rlcredit.policy.base import Policy, TokenLogprobs
from rlcredit.policy.chat import PromptFormat
from rlcredit.policy.packing import Packing
from rlcredit.types import Prompt, Rollouts


class Weights(StrEnum):
    """Where a policy's weights, gradients and moments lie."""

    replicated = auto()
    """Whole in every process."""
    sharded = auto()
    """Each process holds one part of them."""


class _Scoring(nn.Module):
    """The root module of FSDP, whose one call turns tokens into log-probs."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, policy: Policy, rollouts: Rollouts, rows: slice, squares: bool
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """A tuple: FSDP looks for tensors to hook in tuples, not in records."""
        scored = policy.logprobs(rollouts, rows, squares=squares)
        return scored.logprobs, scored.entropy, scored.sum_pi_squared


@dataclass(frozen=True, kw_only=True, eq=False)
class Sharded:
    """A policy whose weights lie in parts; :meth:`of` makes it in all processes at once."""

    inner: Policy
    """The policy with parts as parameters; only to be called through ``scoring``."""
    scoring: _Scoring
    twin: Policy
    """The policy that samples; it has weights only for the time of :meth:`whole`."""
    description: str

    @classmethod
    def of(cls, policy: Policy, world: World, *, dtype: torch.dtype | None) -> "Sharded":
        """Cut a policy's weights into a part for each process.

        Args:
            policy: The same in all processes; not to be used afterwards.
            world: Of this process.
            dtype: Of the weights that are computed with, in log-probs and in sampling; the parts,
                their gradients and moments keep the policy's own. None: that one too.

        Raises:
            ValueError: If there is a single process.
        """
        if world.size == 1:
            raise ValueError(
                "trainer.weights=sharded parts the weights among processes, and this run has one; "
                "set trainer.processes=2 or more, or take trainer=gpu"
            )
        description = policy.description
        twin = deepcopy(policy)
        for parameter in twin.model.parameters():
            parameter.requires_grad_(False)
            parameter.data = parameter.data.new_empty(0, dtype=dtype or parameter.dtype)
        device = policy.model.device
        mesh = init_device_mesh(device.type, (world.size,))
        # inputs are cast by nobody: FSDP would round the sampler's log-probs too
        precision = MixedPrecisionPolicy(
            param_dtype=dtype, reduce_dtype=None, cast_forward_inputs=False
        )
        if dtype is not None:
            wide = next(policy.model.parameters()).dtype
            precision = replace(precision, reduce_dtype=wide)
        scoring = _Scoring(policy.model)
        units = set(policy.model._no_split_modules or [])
        for module in policy.model.modules():
            if type(module).__name__ in units:
                fully_shard(module, mesh=mesh, mp_policy=precision)
        # embedding, last norm and head belong to the root: tied ones must not be parted twice
        fully_shard(scoring, mesh=mesh, mp_policy=precision)
        where = f"weights in {world.size} parts" + ("" if dtype is None else f", used in {dtype}")
        return cls(inner=policy, scoring=scoring, twin=twin, description=f"{description}, {where}")

    @property
    def model(self) -> PreTrainedModel:
        """The weights: this process's parts of them."""
        return self.inner.model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Turns prompts into ids and back."""
        return self.inner.tokenizer

    @property
    def prompt_format(self) -> PromptFormat:
        """How a prompt is put to it."""
        return self.inner.prompt_format

    @property
    def adapters(self) -> PeftModel | None:
        """The low-rank adapters, if only they are trained; their weights lie in parts too."""
        return self.inner.adapters

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a response."""
        return self.inner.eos_ids

    @property
    def context(self) -> int | None:
        """Tokens that the model can read, prompt and response together; None: no limit is known."""
        return self.inner.context

    @property
    def packing(self) -> Packing:
        """How tokens are laid out."""
        return self.inner.packing

    @property
    def is_sharded(self) -> bool:
        """Every process must call it equally often."""
        return True

    def encode(
        self, prompts: Sequence[Prompt], *, reserve: int = 0
    ) -> tuple[Int[Tensor, "P L"], Bool[Tensor, "P L"]]:
        """Prompt ids and mask, left-padded."""
        return self.inner.encode(prompts, reserve=reserve)

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        return self.inner.lengths(prompts)

    def packed(
        self, packing: Packing, *, autocast: bool = False, say: Callable[[str], None]
    ) -> "Sharded":
        """The same policy with its tokens laid out so."""
        return replace(
            self,
            inner=self.inner.packed(packing, autocast=autocast, say=say),
            twin=self.twin.packed(packing, autocast=autocast, say=say),
        )

    @contextmanager
    def whole(self) -> Iterator[Policy]:
        """The plain twin with all weights, as large as the policy; all processes enter it."""
        pairs = list(zip(self.twin.model.parameters(), self.model.parameters(), strict=True))
        with torch.no_grad():
            for twin, part in pairs:
                twin.data = _gathered(part).to(twin.dtype)
        try:
            yield self.twin
        finally:
            for twin, _ in pairs:
                twin.data = twin.data.new_empty(0)

    def export(self, folder: Path) -> None:
        """Refuse: a part alone is nobody's model. Within :meth:`whole` the twin exports.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            f"{folder} cannot hold a part of a policy's weights; export the policy that whole() "
            "gives"
        )

    def logprobs(
        self, rollouts: Rollouts, rows: slice = slice(None), *, squares: bool = False
    ) -> TokenLogprobs:
        """Log-probs of the response tokens; every process must call it as often as the others."""
        found: Any = self.scoring(self.inner, rollouts, rows, squares)
        return TokenLogprobs(logprobs=found[0], entropy=found[1], sum_pi_squared=found[2])


def _gathered(part: Tensor) -> Tensor:
    return part.full_tensor() if isinstance(part, DTensor) else part.detach().clone()
