"""The work that is timed: a model, its prompts, a cheap reward, and rlcredit's own step on them."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from rlcredit.distributed.world import World
from rlcredit.estimators import GRPO
from rlcredit.losses import ClippedSurrogate
from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.packing import Packing
from rlcredit.policy.sharded import Sharded
from rlcredit.rollout.hf import HFRollout
from rlcredit.scoring.scorer import Scorer
from rlcredit.text import Phrases
from rlcredit.text.response import TextRules
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.optim import AdamW
from rlcredit.trainer.settings import TrainerSettings
from rlcredit.types import Prompt, Randomness

PAD_ID, END_ID = 0, 1
NUM_PROMPTS = 64
"""Different ones; a step takes the next P of them."""
LEARNING_RATE = 1e-5
NO_CLIPPING = 1e9


@dataclass(frozen=True, kw_only=True)
class Work:
    """Sizes of one comparison; a tiny Qwen3 of random weights."""

    prompt_tokens: int = 24
    ragged: bool = False
    """128 tokens end a response instead of one, so that lengths differ."""
    prompts_per_step: int = 8
    group_size: int = 8
    max_new_tokens: int = 48
    vocab_size: int = 4096
    hidden_size: int = 256
    num_layers: int = 4

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.prompt_tokens} {'ragged' if self.ragged else 'fixed'}"

    def model(self) -> PreTrainedModel:
        """Random weights, always the same."""
        config = Qwen3Config(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            intermediate_size=3 * self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.hidden_size // 64,
            num_key_value_heads=max(1, self.hidden_size // 128),
            head_dim=64,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            pad_token_id=PAD_ID,
            eos_token_id=END_ID,
        )
        model = Qwen3ForCausalLM(config)
        generator = Randomness(seed=0, step=0).generator("bench weights")
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(std=0.02, generator=generator)
        step = self.vocab_size // 128
        model.generation_config.eos_token_id = (
            [END_ID, *range(step, self.vocab_size, step)] if self.ragged else END_ID
        )
        return model

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A word per token."""
        words = {"<pad>": PAD_ID, "<end>": END_ID}
        words |= {f"w{index}": index for index in range(2, self.vocab_size)}
        made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=made, pad_token="<pad>", eos_token="<end>", padding_side="left"
        )

    def texts(self) -> list[str]:
        """Prompts of exactly ``prompt_tokens`` random words."""
        generator = Randomness(seed=0, step=0).generator("bench prompts")
        shape = (NUM_PROMPTS, self.prompt_tokens)
        rows = torch.randint(2, self.vocab_size, shape, generator=generator).tolist()
        return [" ".join(f"w{index}" for index in row) for row in rows]


def distinct(texts: Sequence[str]) -> list[float]:
    """The common reward: different characters of a text."""
    return [float(len(set(text))) for text in texts]


class DistinctCharacters:
    """The same as a :class:`rlcredit.rewards.base.Reward`."""

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """One number per text."""
        del prompts
        return torch.tensor(distinct(texts))


def policy_of(
    work: Work, model: PreTrainedModel, *, packing: Packing, autocast: bool = False
) -> CausalLM:
    """A model as a policy; it is not copied."""
    made = CausalLM(model=model, tokenizer=work.tokenizer(), origin="random weights")
    return made.packed(packing, autocast=autocast, say=print)


def own_trainer(
    work: Work,
    model: PreTrainedModel,
    *,
    packing: Packing = Packing.shared_prefix,
    autocast: bool = False,
    world: World | None = None,
    sharded: bool = False,
    rollout: HFRollout | None = None,
    tokens_per_microbatch: int = 2**16,
) -> Trainer:
    """Rlcredit's training step on a copy of the model: GRPO with the token-mean loss.

    Without a ``rollout`` of its own it samples with the policy's model as it is.
    """
    world = world or World()
    prompts = [
        Prompt(prompt_id=str(index), text=text, query="", relevance={})
        for index, text in enumerate(work.texts())
    ]
    settings = TrainerSettings(
        steps=1000,
        prompts_per_step=work.prompts_per_step,
        group_size=work.group_size,
        max_advantage=None,
        tokens_per_microbatch=tokens_per_microbatch,
        optimizer=AdamW(lr=LEARNING_RATE, max_grad_norm=NO_CLIPPING, warmup_steps=1),
        packing=packing,
        autocast=autocast,
        threads=1,
    )
    policy: Policy = policy_of(work, deepcopy(model), packing=packing, autocast=autocast)
    return Trainer(
        settings=settings,
        policy=Sharded.of(policy, world, dtype=None) if sharded else policy,
        rollout=rollout or HFRollout(max_new_tokens=work.max_new_tokens),
        scorer=Scorer(reward=DistinctCharacters(), rules=TextRules(), segmenter=Phrases()),
        estimator=GRPO(),
        loss=ClippedSurrogate(),
        prompts=prompts,
        seed=0,
        world=world,
    )
