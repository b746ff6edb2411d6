"""What a policy is: a causal language model with its tokenizer."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlcredit.policy.chat import PromptFormat
from rlcredit.policy.packing import Packing
from rlcredit.tasks.base import Task
from rlcredit.types import Prompt, Rollouts


@dataclass(frozen=True, kw_only=True)
class TokenLogprobs:
    """Log-probs and entropies of response tokens under the current policy; 0 outside the mask."""

    logprobs: Float[Tensor, "B T"]
    """Nats, with the rollouts' temperature; differentiable."""
    entropy: Float[Tensor, "B T"]
    """Nats, detached."""
    sum_pi_squared: Float[Tensor, "B T"] | None = None
    """The sum over the vocabulary of pi(v)^2, detached; None where it was not asked for."""


@runtime_checkable
class Policy(Protocol):
    """The only place, with ``rollout/`` and the backward pass, that says B = P * G."""

    @property
    def model(self) -> PreTrainedModel:
        """The weights."""
        ...

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Turns prompts into ids and back."""
        ...

    @property
    def adapters(self) -> PeftModel | None:
        """The low-rank adapters inside ``model``, where only they are trained."""
        ...

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a response (generation_config may name several)."""
        ...

    @property
    def context(self) -> int | None:
        """Tokens that the model can read, prompt and response together; None: no limit is known."""
        ...

    @property
    def prompt_format(self) -> PromptFormat:
        """How a prompt is put to it: through the tokenizer's chat template, or as plain text."""
        ...

    @property
    def packing(self) -> Packing:
        """How tokens are laid out."""
        ...

    @property
    def is_sharded(self) -> bool:
        """Do the processes of the run hold a part of the weights each?

        Then each must call :meth:`logprobs`, and take its gradient, as often as the others, and
        gradients become the mean over processes by themselves.
        """
        ...

    @property
    def description(self) -> str:
        """One line for the log: architecture, parameters, trainable ones, where it comes from."""
        ...

    def encode(
        self, prompts: Sequence[Prompt], *, reserve: int = 0
    ) -> tuple[Int[Tensor, "P L"], Bool[Tensor, "P L"]]:
        """Prompt ids and mask, left-padded, through the chat template where there is one.

        Args:
            prompts: P of them.
            reserve: Tokens of the model's context to leave for the response; a prompt that leaves
                fewer is a ValueError.
        """
        ...

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt, as :meth:`encode` makes them."""
        ...

    def packed(
        self, packing: Packing, *, autocast: bool = False, say: Callable[[str], None]
    ) -> "Policy":
        """The same policy with its tokens laid out so; what its model cannot take stays padded."""
        ...

    def whole(self) -> AbstractContextManager["Policy"]:
        """Lend a policy that has all weights in this process, for sampling and export.

        Every process of the run enters it, whether it uses the policy or not; inside, each may call
        it as often as it likes.
        """
        ...

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder (safetensors) that ``from_pretrained`` loads."""
        ...

    def logprobs(
        self, rollouts: Rollouts, rows: slice = slice(None), *, squares: bool = False
    ) -> TokenLogprobs:
        """Log-probs of the response tokens of rows of the flattened [P * G] batch.

        Args:
            rollouts: The tokens.
            rows: Of the batch.
            squares: Sum up the squared probabilities of the vocabulary too.
        """
        ...


@runtime_checkable
class PolicySource(Protocol):
    """A policy's settings, and how to make or load it."""

    @property
    def base_model(self) -> str | None:
        """Hub name or folder of the pretrained model it starts from; None: made from scratch."""
        ...

    @property
    def highest_lr(self) -> float | None:
        """The learning rate above which its weights are sooner destroyed than trained, if known."""
        ...

    def load(
        self,
        task: Task,
        *,
        seed: int,
        cache: Path,
        device: torch.device,
        say: Callable[[str], None],
    ) -> Policy:
        """The policy that training starts from. ``say`` reports what takes long."""
        ...
