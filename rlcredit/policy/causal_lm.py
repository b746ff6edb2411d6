"""A causal language model of transformers as a policy.

Knows token ids and padding. Does not know rewards, credit or how responses are sampled. The padded
path here is the reference for the one that computes a prompt once.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rlcredit.policy.attention import NAME, PackAttention, no_mask, obstacle
from rlcredit.policy.base import TokenLogprobs
from rlcredit.policy.chat import PINNED, ChatOption, PromptFormat
from rlcredit.policy.head import head_logprobs
from rlcredit.policy.norms import exact_norms
from rlcredit.policy.packing import Pack, Packing
from rlcredit.types import Prompt, Rollouts


@dataclass(frozen=True, kw_only=True, eq=False)
class CausalLM:
    """A policy that is one model of transformers with its tokenizer.

    Raises:
        ValueError: If no token ends a response, or a stop token is not one token.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    origin: str
    """Name of the place that the weights come from, for the log."""
    adapters: PeftModel | None = None
    """The low-rank adapters inside ``model``, where only they are trained."""
    chat_options: dict[str, ChatOption] = field(default_factory=dict)
    """Variables of the chat template."""
    today: datetime = PINNED
    """The date and time that the chat template is told."""
    stop_tokens: Sequence[str] = ()
    """Tokens that end a response besides those that model, tokenizer and chat template name."""
    packing: Packing = Packing.padded
    """Set by :meth:`packed`."""
    autocast: bool = False
    """Log-probs and their gradients in bfloat16 products, with the weights as they are."""
    eos_ids: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the tokens that end a response."""
        more = {*stop_ids(self.tokenizer, self.stop_tokens), *self.prompt_format.turn_ends()}
        object.__setattr__(self, "eos_ids", end_ids(self.model, self.tokenizer, more=more))

    @property
    def description(self) -> str:
        """One line for the log: architecture, parameters, trainable ones, where it comes from."""
        parameters = list(self.model.parameters())
        total = sum(p.numel() for p in parameters)
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        return (
            f"{type(self.model).__name__}, {total:,} parameters ({trained:,} trained), "
            f"vocabulary {self.model.config.get_text_config().vocab_size:,}, {self.origin}"
        )

    @property
    def is_sharded(self) -> bool:
        """It has all its weights."""
        return False

    @property
    def context(self) -> int | None:
        """Tokens that the model can read, prompt and response together; None: no limit is known."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def encode(
        self, prompts: Sequence[Prompt], *, reserve: int = 0
    ) -> tuple[Int[Tensor, "P L"], Bool[Tensor, "P L"]]:
        """Prompt ids and mask, left-padded, through the chat template where there is one.

        A tokenizer without a chat template gets the plain ``prompt.text``.

        Raises:
            ValueError: If a prompt has no token, or leaves less than ``reserve`` of the context.
        """
        rows = self.prompt_ids(prompts)
        for prompt, row in zip(prompts, rows, strict=True):
            self._check_length(prompt, len(row), reserve)
        length = max((len(row) for row in rows), default=0)
        filler = pad_id(self.tokenizer, self.eos_ids)
        ids = [[filler] * (length - len(row)) + row for row in rows]
        mask = [[False] * (length - len(row)) + [True] * len(row) for row in rows]
        device = self.model.device
        shape = (len(rows), length)
        return (
            torch.tensor(ids, dtype=torch.long, device=device).reshape(shape),
            torch.tensor(mask, dtype=torch.bool, device=device).reshape(shape),
        )

    def prompt_ids(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Token ids of each prompt, as :meth:`encode` pads them."""
        return self.prompt_format.ids(prompts, end_ids=self.eos_ids)

    @property
    def turn_end(self) -> int:
        """The token that ends a taught response: the chat template's, else the tokenizer's end."""
        own = self.tokenizer.eos_token_id
        return min(
            self.prompt_format.turn_ends() or ([own] if isinstance(own, int) else self.eos_ids)
        )

    def lengths(self, prompts: Sequence[Prompt]) -> list[int]:
        """Tokens of each prompt."""
        return [len(row) for row in self.prompt_ids(prompts)]

    def logprobs(
        self, rollouts: Rollouts, rows: slice = slice(None), *, squares: bool = False
    ) -> TokenLogprobs:
        """Log-probs of the response tokens of rows of the flattened [P * G] batch.

        The log-softmax runs in float32 (float64 for a float64 model), at the temperature with
        which the tokens were sampled.
        """
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.autocast):
            if self.packing is Packing.shared_prefix:
                return self._packed_logprobs(rollouts, rows, squares)
            return self._padded_logprobs(rollouts, rows, squares)

    def packed(
        self, packing: Packing, *, autocast: bool = False, say: Callable[[str], None]
    ) -> "CausalLM":
        """The same policy with its tokens laid out so; what its model cannot take stays padded.

        Args:
            packing: The layout.
            autocast: Compute log-probs in bfloat16 products.
            say: Told why a model stays padded.
        """
        reason = obstacle(self.model) if packing is Packing.shared_prefix else None
        if reason is not None:
            say(f"prompts are computed once per response (trainer.packing=padded), since {reason}")
            packing = Packing.padded
        if packing is Packing.shared_prefix:
            self.model.set_attn_implementation(NAME)
        if self.model.dtype == torch.float64:
            exact_norms(self.model)
        return replace(self, packing=packing, autocast=autocast)

    def whole(self) -> AbstractContextManager["CausalLM"]:
        """Lend the policy itself: it has all its weights."""
        return nullcontext(self)

    def _packed_logprobs(self, rollouts: Rollouts, rows: slice, squares: bool) -> TokenLogprobs:
        """A prompt computed once for its rows, and the head only where a token is scored."""
        pack = Pack.of(rollouts, rows)
        model: Any = self.model
        hidden = model.get_decoder()(
            input_ids=pack.ids[None],
            position_ids=pack.positions[None],
            attention_mask=no_mask(pack.ids.device),
            use_cache=False,
            layout=PackAttention(pack),
        ).last_hidden_state[0, pack.heads]
        weight = model.get_output_embeddings().weight
        chosen, entropy, squared = head_logprobs(
            hidden,
            weight,
            pack.heads_of,
            pack.targets,
            temperature=rollouts.temperature,
            squares=squares,
        )
        shape = rollouts.response_mask.flatten(0, 1)[rows].shape

        def placed(values: Tensor) -> Tensor:
            return values.new_zeros(shape).index_put(pack.cells, values)

        return TokenLogprobs(
            logprobs=placed(chosen),
            entropy=placed(entropy[pack.heads_of]),
            sum_pi_squared=placed(squared[pack.heads_of]) if squares else None,
        )

    def _padded_logprobs(self, rollouts: Rollouts, rows: slice, squares: bool) -> TokenLogprobs:
        """A row per response. Columns that are padding in all rows are not computed."""
        group_size = rollouts.response_ids.shape[1]
        responses = rollouts.response_ids.flatten(0, 1)[rows]
        mask = rollouts.response_mask.flatten(0, 1)[rows]
        prompts = torch.arange(len(rollouts.prompts), device=mask.device)
        prompts = prompts.repeat_interleave(group_size)[rows]
        prompt_mask = rollouts.prompt_mask[prompts]
        first, used = prompt_mask.shape[1] - _longest(prompt_mask), _longest(mask)
        ids = torch.cat([rollouts.prompt_ids[prompts][:, first:], responses[:, : used - 1]], dim=1)
        attention = torch.cat([prompt_mask[:, first:], mask[:, : used - 1]], dim=1)
        logits = self.model(
            input_ids=ids,
            attention_mask=attention.long(),
            position_ids=positions(attention),
            use_cache=False,
            logits_to_keep=used,
        ).logits
        scored = token_logprobs(
            logits, responses[:, :used], temperature=rollouts.temperature, squares=squares
        )

        def placed(values: Tensor) -> Tensor:
            kept = values.masked_fill(~mask[:, :used], 0)
            return pad(kept, (0, responses.shape[1] - used))

        squared = scored.sum_pi_squared
        return TokenLogprobs(
            logprobs=placed(scored.logprobs),
            entropy=placed(scored.entropy),
            sum_pi_squared=None if squared is None else placed(squared),
        )

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder (safetensors), adapters merged into the weights."""
        model: Any = self.model
        if self.adapters is not None:
            model = deepcopy(self.adapters).merge_and_unload()
        save_folder(model, self.tokenizer, folder)

    @property
    def prompt_format(self) -> PromptFormat:
        """How a prompt is put to it."""
        return PromptFormat(
            tokenizer=self.tokenizer,
            origin=self.origin,
            options=self.chat_options,
            today=self.today,
        )

    def _check_length(self, prompt: Prompt, length: int, reserve: int) -> None:
        if length == 0:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has no token, and a model needs one to start from; "
                "drop the prompt, or give it a text"
            )
        if self.context is not None and length + reserve > self.context:
            raise ValueError(
                f"prompt {prompt.prompt_id!r} has {length} tokens, but with {reserve} kept for the "
                f"response only {self.context - reserve} of the model's {self.context} are left; "
                "shorten the prompts (dataset), lower rollout.max_new_tokens, or choose a policy "
                "with a longer context"
            )


def end_ids(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, more: Iterable[int] = ()
) -> frozenset[int]:
    """The tokens that end a response: those of the generation config, the tokenizer's, and more.

    Raises:
        ValueError: If there is none.
    """
    config = model.generation_config
    named = None if config is None else config.eos_token_id
    ids = [*(named if isinstance(named, list) else [named]), tokenizer.eos_token_id, *more]
    found = frozenset(i for i in ids if isinstance(i, int))
    if not found:
        raise ValueError(
            f"nothing ends a response of {model.config.name_or_path or type(model).__name__}: set "
            "eos_token_id in its generation_config.json, or an eos_token in its tokenizer"
        )
    return found


def save_folder(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a Hugging Face folder, every file of which whoever the umask allows may read."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # which safetensors keeps from all others
        shutil.copymode(folder / "config.json", weights)


def stop_ids(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[int]:
    """The ids of tokens given by their text.

    Raises:
        ValueError: If a text is not one token of the vocabulary.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token not in vocabulary:
            raise ValueError(
                f"policy.stop_tokens has {token!r}, which is no token of this policy's vocabulary; "
                "a response can end with a single token alone: give it as the vocabulary spells it"
            )
    return [vocabulary[token] for token in tokens]


def pad_id(tokenizer: PreTrainedTokenizerBase, eos_ids: frozenset[int]) -> int:
    """The token that fills up rows, where it is always masked."""
    found = tokenizer.pad_token_id
    return found if isinstance(found, int) else min(eos_ids)


def positions(mask: Bool[Tensor, "B L"]) -> Int[Tensor, "B L"]:
    """Place of each token among the unmasked ones of its row; 0 on left padding."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def token_logprobs(
    logits: Float[Tensor, "B T V"],
    ids: Int[Tensor, "B T"],
    *,
    temperature: float,
    squares: bool = False,
) -> TokenLogprobs:
    """Log-probability of each id under its logits at a temperature, and the entropy there.

    With ``squares`` the sum of the squared probabilities too.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    every = (wide if temperature == 1 else wide / temperature).log_softmax(-1)
    with torch.no_grad():
        # a forbidden token has 0 * -inf, which is no number and counts as nothing
        entropy = -every.exp().mul_(every).nansum(-1)
        squared = (2 * every).exp().sum(-1) if squares else None
    chosen = every.gather(-1, ids[..., None]).squeeze(-1)
    return TokenLogprobs(logprobs=chosen, entropy=entropy, sum_pi_squared=squared)


def _longest(mask: Bool[Tensor, "B L"]) -> int:
    return max(1, int(mask.sum(1).max()))
