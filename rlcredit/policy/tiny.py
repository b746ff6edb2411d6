"""A small policy made from scratch: no download, no GPU, a few seconds to make.

Its tokenizer is trained on the task's texts, its weights are warm-started by supervised steps on a
teacher's demonstrations. It knows training prompts and the documents judged for them, nothing else.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import ClassVar

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from rlcredit.distributed.machine import machine_type
from rlcredit.policy.causal_lm import CausalLM, save_folder
from rlcredit.policy.draws import global_stream
from rlcredit.policy.kept import make_once
from rlcredit.policy.vocabulary import END_ID, PAD_ID, Alphabet, reads, train_tokenizer
from rlcredit.policy.warm_start import WarmStart, teach
from rlcredit.tasks.base import Task
from rlcredit.text.candidates import tags
from rlcredit.types import Randomness

_DEMONSTRATIONS = 4
"""Demonstrations of each training prompt that the tokenizer is trained on."""


@dataclass(frozen=True, kw_only=True)
class Tiny:
    """Qwen3's architecture, small, with a tokenizer of the task's words.

    Raises:
        ValueError: If the sizes do not fit together.
    """

    hidden_size: int = 96
    """Width of the model."""
    num_layers: int = 3
    """Layers of the model."""
    num_heads: int = 3
    """Heads of attention for queries."""
    num_kv_heads: int = 1
    """Heads of attention for keys and values, of which ``num_heads`` is a multiple."""
    head_dim: int = 32
    """Width of a head."""
    mlp_ratio: int = 3
    """Width of the feed-forward layers, in widths of the model."""
    vocab_size: int = 2048
    """Largest number of tokens, before those that the task's texts do not need are left out."""
    alphabet: Alphabet = Alphabet.characters
    """What words are spelt with that are no token."""
    context: int = 512
    """Longest prompt and response together, in tokens."""
    initializer_range: float = 0.08
    """Standard deviation of the initial weights; the usual 0.02 halves the speed of learning at
    this width."""
    warm_start: WarmStart = field(default_factory=WarmStart)

    numerics: ClassVar[int] = 3

    def __post_init__(self) -> None:
        """Check the sizes."""
        sizes = (self.hidden_size, self.num_layers, self.num_heads, self.num_kv_heads)
        if min(*sizes, self.head_dim, self.mlp_ratio, self.context) < 1:
            raise ValueError(f"a size of {self} is below 1")
        if self.num_heads % self.num_kv_heads or self.head_dim % 2:
            raise ValueError(
                f"policy.num_heads={self.num_heads} must be a multiple of policy.num_kv_heads="
                f"{self.num_kv_heads}, and policy.head_dim={self.head_dim} must be even"
            )
        if self.initializer_range <= 0:
            raise ValueError(f"policy.initializer_range={self.initializer_range} must be above 0")

    @property
    def base_model(self) -> None:
        """It has none."""

    @property
    def highest_lr(self) -> None:
        """None is known: a policy made from scratch has little to lose."""

    def load(
        self,
        task: Task,
        *,
        seed: int,
        cache: Path,
        device: torch.device,
        say: Callable[[str], None],
    ) -> CausalLM:
        """The warm-started policy: from ``cache`` by its content hash, else made and kept there.

        Raises:
            OSError: If it cannot be kept; said before the teaching where the folder is at fault.
            ValueError: If the kept policy is damaged.
        """
        folder = cache / "policies" / f"tiny-{self._key(task, seed)}"
        if folder.exists():
            say(f"warm start: kept from before in {folder}")
        else:
            teach = partial(self._teach, task, seed=seed, say=say)
            make_once(folder, teach, what="warm start", say=say)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
            model = Qwen3ForCausalLM.from_pretrained(folder, use_safetensors=True)
            loss = json.loads((folder / "warm_start.json").read_text())["loss"]
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"the warm-started policy kept in {folder} is damaged ({error}); delete that "
                "folder, and it is made again"
            ) from error
        model.to(device)  # pyright: ignore[reportArgumentType] a decorator hides `self`
        taught = f"warm-started by {self.warm_start.steps} supervised steps"
        ended = "" if loss is None else f" to {loss:.3f} nats a token"
        policy = CausalLM(
            model=model,
            tokenizer=tokenizer,
            origin=f"made from scratch (no pretraining), {taught}{ended}",
        )
        say(f"policy: {policy.description}")
        held_out = (*task.validation, *task.test)
        unread = [prompt for prompt in held_out if not reads(tokenizer, prompt.text)]
        if unread:
            say(
                f"policy: {len(unread)} of {len(held_out)} held-out prompts hold words that it "
                f"cannot read, spelt as no training text is, such as {unread[0].text[:80]!r}"
            )
        return policy

    def skeleton(self, *, cache: Path, say: Callable[[str], None]) -> Qwen3ForCausalLM:
        """The model on the meta device, with the largest vocabulary that its tokenizer may get."""
        del cache, say
        with torch.device("meta"):
            return Qwen3ForCausalLM(self._config(self.vocab_size))

    def _key(self, task: Task, seed: int) -> str:
        """Hash of everything that the weights depend on, to their last bits."""
        parts = [self.numerics, task.digest, seed, asdict(self), machine_type()]
        return blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()

    def _teach(self, task: Task, folder: Path, *, seed: int, say: Callable[[str], None]) -> None:
        """Train tokenizer and weights, and save them."""
        began = monotonic()
        texts = _texts(task, seed)
        tokenizer = train_tokenizer(
            texts,
            alphabet=self.alphabet,
            vocab_size=self.vocab_size,
            context=self.context,
            whole=[tag for pair in tags(task.rules.num_candidates) for tag in pair],
        )
        model = self._initial(len(tokenizer), seed)
        say(
            f"warm start: {self.warm_start.steps} supervised steps of a policy made from scratch, "
            f"{model.num_parameters():,} parameters, vocabulary {len(tokenizer):,}"
        )
        loss = teach(
            CausalLM(model=model, tokenizer=tokenizer, origin="made from scratch"),
            settings=self.warm_start,
            prompts=task.train,
            teacher=task.teacher,
            seed=seed,
            say=say,
        )
        save_folder(model, tokenizer, folder)
        record = {"loss": loss, "numerics": self.numerics, "seed": seed, "task": task.digest}
        record |= {"settings": asdict(self), "machine": machine_type()}
        record["seconds"] = round(monotonic() - began, 1)
        (folder / "warm_start.json").write_text(json.dumps(record, indent=2))

    def _initial(self, vocab_size: int, seed: int) -> Qwen3ForCausalLM:
        with global_stream(Randomness(seed=seed, step=0).generator("weights")):
            return Qwen3ForCausalLM(self._config(vocab_size))

    def _config(self, vocab_size: int) -> Qwen3Config:
        return Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=self.mlp_ratio * self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=self.context,
            initializer_range=self.initializer_range,
            tie_word_embeddings=True,
            pad_token_id=PAD_ID,
            eos_token_id=END_ID,
        )


def _texts(task: Task, seed: int) -> Iterator[str]:
    """Training prompts, demonstrations of them, and what else the task's words stand in."""
    for index, prompt in enumerate(task.train):
        yield prompt.text
        generator = Randomness(seed=seed, step=0).generator("vocabulary", index)
        for _ in range(_DEMONSTRATIONS):
            yield task.teacher(prompt, generator)
    yield from task.vocabulary()
