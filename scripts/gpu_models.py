"""Models of published shapes with random weights, made where they are used, and work for them."""

from dataclasses import dataclass, field, replace

import torch
from transformers import (
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlcredit.policy.draws import global_stream
from rlcredit.types import Randomness
from scripts.bench_work import END_ID, PAD_ID, Work


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of an architecture."""

    name: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norms_heads: bool
    """Qwen3's architecture; False: Qwen2's, with biases."""

    def outline(self) -> PreTrainedModel:
        """The model, with torch's own first weights, or none on the meta device."""
        settings = {
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
            "pad_token_id": PAD_ID,
            "eos_token_id": END_ID,
        }
        if self.norms_heads:
            return Qwen3ForCausalLM(Qwen3Config(**settings, head_dim=self.head_dim))
        return Qwen2ForCausalLM(Qwen2Config(**settings))

    def model(self, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """Random weights, the same at each call on one type of machine."""
        with global_stream(Randomness(seed=0, step=0).generator("gpu weights")):
            made = self.outline()
        assert made.generation_config is not None
        made.generation_config.eos_token_id = END_ID
        # parameters alone: rotary frequencies stay in float32, as a loaded model has them
        for parameter in made.parameters():
            parameter.data = parameter.data.to(device, dtype)
        return made.to(device)  # pyright: ignore[reportArgumentType] a decorator hides `self`


QWEN3 = Sizes(
    name="Qwen3-0.6B",
    vocab_size=151936,
    hidden_size=1024,
    intermediate_size=3072,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
    norms_heads=True,
)
QWEN2 = Sizes(
    name="Qwen2.5-0.5B",
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_layers=24,
    num_heads=14,
    num_kv_heads=2,
    head_dim=64,
    norms_heads=False,
)
SHAPES = (QWEN3, QWEN2)


def small(sizes: Sizes, *, tiny: bool) -> Sizes:
    """The same architecture with few layers and words, for checks of what is computed."""
    if tiny:
        return replace(
            sizes,
            vocab_size=300,
            hidden_size=32,
            intermediate_size=48,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=8 if not sizes.norms_heads else 16,
        )
    return replace(sizes, vocab_size=4096, num_layers=4)


@dataclass(frozen=True, kw_only=True)
class SizedWork(Work):
    """Work for a model of given sizes."""

    sizes: Sizes = field(default=QWEN3)
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default=torch.device("cpu"))
    mean_tokens: int | None = None
    """So many ends are in the vocabulary that random responses would have this mean length without
    a cap; None: one end, so that nearly all responses fill the cap."""

    @classmethod
    def of(cls, sizes: Sizes, device: torch.device, **settings: object) -> "SizedWork":
        """Work whose vocabulary is the model's."""
        chosen: dict = {"vocab_size": sizes.vocab_size, **settings}
        return cls(sizes=sizes, device=device, **chosen)

    @property
    def name(self) -> str:
        """Name in tables."""
        return (
            f"{self.sizes.name}, {self.prompts_per_step} x {self.group_size}, "
            f"prompts of {self.prompt_tokens}, at most {self.max_new_tokens} tokens"
        )

    def model(self) -> PreTrainedModel:
        """Random weights on the device."""
        made = self.sizes.model(self.dtype, self.device)
        if self.mean_tokens is not None:
            step = self.mean_tokens
            assert made.generation_config is not None
            made.generation_config.eos_token_id = [END_ID, *range(step, self.vocab_size, step)]
        return made
