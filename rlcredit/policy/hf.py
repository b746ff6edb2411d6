"""Any causal language model of the Hugging Face hub, or of a folder in its format."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, auto
from pathlib import Path
from typing import ClassVar

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.chat import PINNED, ChatOption
from rlcredit.policy.draws import global_stream
from rlcredit.policy.pretrained import (
    quieten,
    refuse_tied_adapters,
    refuse_unrepeatable,
    sample_plainly,
    try_export,
)
from rlcredit.tasks.base import Task
from rlcredit.types import Randomness


class Dtype(StrEnum):
    """Number format of the weights."""

    float32 = auto()
    bfloat16 = auto()
    float64 = auto()

    @property
    def torch(self) -> torch.dtype:
        """The same in torch."""
        return getattr(torch, self.value)


@dataclass(frozen=True, kw_only=True)
class LoRA:
    """Low-rank adapters (arXiv:2106.09685) on every linear layer but the head.

    Raises:
        ValueError: If a value is out of its range.
    """

    rank: int = 0
    """0 trains all weights instead."""
    alpha: float = 32.0
    """The adapters' output is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Dropout on the adapters' input. Above 0 two forward passes of training mode differ."""
    target_modules: str = "all-linear"
    """What PEFT puts adapters on: all-linear, or a regular expression over module names."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.rank < 0:
            raise ValueError(f"policy.lora.rank={self.rank}, but a rank is 0 (none) or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"policy.lora.dropout={self.dropout} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class HF:
    """A pretrained policy, by hub name or folder. Weights are read as safetensors only."""

    name: str
    """Hub name (``Qwen/Qwen2.5-0.5B-Instruct``) or folder."""
    revision: str | None = None
    """Commit, branch or tag of the hub repository; None: its default branch."""
    dtype: Dtype = Dtype.float32
    lora: LoRA = LoRA()
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more compute."""
    chat_options: dict[str, ChatOption] = field(default_factory=dict)
    """Variables of the chat template, such as ``enable_thinking`` or ``reasoning_effort``."""
    date: str = PINNED.date().isoformat()
    """What a chat template that asks for today's date is told (``strftime_now``), in ISO 8601."""
    stop_tokens: list[str] = field(default_factory=list)
    """Tokens that end a response, besides those that the model, the tokenizer and the chat template
    name: ``["<|im_end|>"]`` for a model without a template that was trained on such turns."""

    numerics: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the date."""
        _ = self.today

    @property
    def today(self) -> datetime:
        """The date and time that a chat template is told.

        Raises:
            ValueError: If ``date`` is none.
        """
        try:
            return datetime.fromisoformat(self.date)
        except ValueError as error:
            raise ValueError(
                f"policy.date={self.date} is no date of ISO 8601; give one such as "
                f"{PINNED.date().isoformat()}"
            ) from error

    def load(
        self,
        task: Task,
        *,
        seed: int,
        cache: Path,
        device: torch.device,
        say: Callable[[str], None],
    ) -> CausalLM:
        """The pretrained model with its tokenizer; ``task`` and ``cache`` are not needed.

        Raises:
            FileNotFoundError: If ``name`` is a path where nothing is.
            ValueError: If the model cannot be loaded, sampled from, or exported.
        """
        del task, cache
        model, tokenizer = self._pretrained()
        adapters = self._adapt(model, seed) if self.lora.rank else None
        model.to(device)  # pyright: ignore[reportArgumentType] a decorator hides `self`
        refuse_unrepeatable(model, self.name)
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        # transformers recomputes, and PEFT drops, in training mode only
        model.train(self.gradient_checkpointing or self.lora.dropout > 0)
        policy = CausalLM(
            model=model,
            tokenizer=tokenizer,
            adapters=adapters,
            chat_options=dict(self.chat_options),
            today=self.today,
            stop_tokens=tuple(self.stop_tokens),
            origin=f"pretrained {self.name} in {self.dtype}, {self._trained}",
        )
        sample_plainly(model, policy.eos_ids)
        try_export(model, tokenizer, self.name)
        say(f"policy: {policy.description}")
        return policy

    @property
    def _trained(self) -> str:
        """What is trained, for the log."""
        if not self.lora.rank:
            return "all weights are trained"
        dropout = f" with dropout {self.lora.dropout} in training" if self.lora.dropout else ""
        return f"LoRA of rank {self.lora.rank}{dropout}"

    def _pretrained(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        place = Path(self.name).expanduser()
        if place.exists():
            source = str(place)
        elif place.is_absolute() or self.name.startswith((".", "~")) or self.name.count("/") > 1:
            raise FileNotFoundError(
                f"policy.name={self.name}: there is no such folder; give one with config.json, "
                "tokenizer.json and *.safetensors, or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
            )
        else:
            source = self.name
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                source, revision=self.revision, trust_remote_code=False
            )
            config = AutoConfig.from_pretrained(
                source, revision=self.revision, trust_remote_code=False
            )
            quieten(config)
            model = AutoModelForCausalLM.from_pretrained(
                source,
                config=config,
                revision=self.revision,
                dtype=self.dtype.torch,
                use_safetensors=True,
                trust_remote_code=False,
            )
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ValueError(
                f"policy.name={self.name} cannot be loaded: {error}; it must be a folder with "
                "config.json, tokenizer.json and *.safetensors of a causal language model, or the "
                "hub name of one (needs the network, or the model in the Hugging Face cache)"
            ) from error
        return model, tokenizer

    def _adapt(self, model: PreTrainedModel, seed: int) -> PeftModel:
        settings = LoraConfig(
            r=self.lora.rank,
            lora_alpha=self.lora.alpha,  # pyright: ignore[reportArgumentType] PEFT divides it only
            lora_dropout=self.lora.dropout,
            target_modules=self.lora.target_modules,
            task_type="CAUSAL_LM",
        )
        with global_stream(Randomness(seed=seed, step=0).generator("adapters")):
            adapted = get_peft_model(model, settings)
        if not isinstance(adapted, PeftModel):
            raise TypeError(f"PEFT returned {type(adapted).__name__} instead of a PeftModel")
        refuse_tied_adapters(model, self.lora.target_modules)
        return adapted
