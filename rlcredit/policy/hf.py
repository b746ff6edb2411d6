"""Any causal language model of the Hugging Face hub, or of a folder in its format."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, auto
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.draws import global_stream
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
    chat_options: dict[str, bool] = field(default_factory=dict)
    """Variables of the chat template, such as ``enable_thinking``."""

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
            ValueError: If the model cannot be loaded.
        """
        del task, cache
        model, tokenizer = self._pretrained()
        adapters = self._adapt(model, seed) if self.lora.rank else None
        model.to(device)  # pyright: ignore[reportArgumentType] a decorator hides `self`
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        # transformers recomputes, and PEFT drops, in training mode only
        model.train(self.gradient_checkpointing or self.lora.dropout > 0)
        trained = f"LoRA of rank {self.lora.rank}" if adapters else "all weights are trained"
        policy = CausalLM(
            model=model,
            tokenizer=tokenizer,
            adapters=adapters,
            chat_options=dict(self.chat_options),
            origin=f"pretrained {self.name} in {self.dtype}, {trained}",
        )
        say(f"policy: {policy.description}")
        return policy

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
            model = AutoModelForCausalLM.from_pretrained(
                source,
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
        return adapted
