"""Sampling with the Hugging Face model itself: a decode loop of our own.

A prompt is read once, whatever the group's size. Rows that ended leave the batch. Neither changes a
sample: each rollout draws from a stream of its own, one uniform number per position.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlcredit.identity import ASIDE
from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import pad_id
from rlcredit.policy.footprint import Footprint, MemoryLine, Phase
from rlcredit.policy.hf import Dtype
from rlcredit.policy.packing import Packing
from rlcredit.rollout.decoding import CacheState, PrefixState
from rlcredit.rollout.sampled import Sampled, check_request, check_settings
from rlcredit.rollout.static import StaticDecoder, padded_width
from rlcredit.types import Prompt, Randomness, Rollouts


class Decoding(StrEnum):
    """Where keys and values lie while responses grow; it changes speed and memory, no number."""

    dynamic = auto()
    """In tensors that grow with the responses, and shrink as they end: the reference."""
    static = auto()
    """In buffers of fixed shape."""
    cuda_graphs = auto()
    """In buffers of fixed shape, and the one-token step is recorded once and replayed."""


@dataclass
class _Slot:
    """Holds what outlives a call, while settings are frozen."""

    source: PreTrainedModel | None = None
    """The model that was copied."""
    copy: PreTrainedModel | None = None
    """Its weights in the sampler's number format."""
    decoder: StaticDecoder | None = None


@dataclass(frozen=True, eq=False)
class _Work:
    """What is to be decoded: P prompts, G rows of each."""

    policy: Policy
    ids: Int[Tensor, "P L"]
    mask: Bool[Tensor, "P L"]
    sampled: Sampled
    """Its rows are filled in."""
    uniforms: Float[Tensor, "B T"] | None
    """A number for each draw; None: the most probable token."""
    group_size: int


@dataclass(frozen=True, kw_only=True)
class HFRollout:
    """Samples responses with the policy's own model, in the training process.

    Raises:
        ValueError: If a setting is out of its range.
    """

    max_new_tokens: int = 32
    """Longest response, in tokens."""
    temperature: float = 1.0
    """What logits are divided by before sampling; positive."""
    max_rows: int = 256
    """Responses that are decoded at once; bounds the memory of the key-value cache."""
    decoding: Decoding = field(default=Decoding.dynamic, metadata=ASIDE)
    """Like ``trainer.packing`` it moves the last bits of a float32 run, and is no part of its
    digest."""
    dtype: Dtype | None = None
    """Number format of the sampler's copy of the weights, refreshed at each call; null: no copy,
    the policy's own. ``bfloat16`` halves what decoding reads; the mismatch metrics say what it
    costs, and ``trainer.mismatch.correction`` corrects it."""
    _slot: _Slot = field(default_factory=_Slot, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_settings(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            max_rows=self.max_rows,
        )

    @property
    def context(self) -> int | None:
        """It takes what the policy reads."""
        return None

    def memory(
        self, model: Footprint, *, prompt_tokens: int, shares_prompts: bool
    ) -> list[MemoryLine]:
        """What sampling needs at most: keys and values, logits, and a copy of the weights."""
        dtype = model.dtype if self.dtype is None else self.dtype.torch
        rows, token = self.max_rows, model.cache_numbers * dtype.itemsize
        lines = []
        if self.dtype is not None:
            size = model.numbers * dtype.itemsize
            lines.append(MemoryLine(what=f"the sampler's copy in {self.dtype}", num_bytes=size))
        if self.decoding is not Decoding.dynamic:
            width = padded_width(prompt_tokens)
            size = rows * (self.max_new_tokens + width) * token
            lines.append(MemoryLine(what="buffers of keys and values", num_bytes=size))
            drawing = 3 * max(4, dtype.itemsize)
        else:
            # whoever drops rows copies the others: twice
            held = self.max_new_tokens if shares_prompts else self.max_new_tokens + prompt_tokens
            size = rows * (2 * held + prompt_tokens) * token
            lines.append(MemoryLine(what="keys and values", num_bytes=size, phase=Phase.sampling))
            drawing = 3 * 8
        size = rows * model.vocabulary * (dtype.itemsize + drawing)
        lines.append(MemoryLine(what="drawing from logits", num_bytes=size, phase=Phase.sampling))
        return lines

    def start(self, policy: Policy) -> None:
        """Nothing: it samples with the policy's own weights."""

    def __call__(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        randomness: Randomness,
        offset: int = 0,
        greedy: bool = False,
        spans: bool = True,
    ) -> Rollouts:
        """G responses to each prompt; see the protocol.

        Raises:
            ValueError: If there is no prompt, a prompt is too long, or a greedy group has siblings.
            FloatingPointError: If the policy's logits are not finite.
        """
        check_request(prompts, group_size=group_size, greedy=greedy)
        ids, mask = policy.encode(prompts, reserve=self.max_new_tokens)
        uniforms = None
        if not greedy:
            first = offset * group_size
            numbers = range(first, first + len(prompts) * group_size)
            uniforms = _uniforms(randomness, "rollout", numbers, self.max_new_tokens)
            uniforms = uniforms.to(ids.device)
        sampled = Sampled.empty(len(prompts) * group_size, self.max_new_tokens, policy, ids.device)
        self._decode_all(_Work(policy, ids, mask, sampled, uniforms, group_size))
        return sampled.rollouts(
            policy, prompts, ids, mask, temperature=self.temperature, spans=spans
        )

    def resume(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        prefixes: Sequence[Sequence[int]],
        *,
        count: int,
        randomness: Randomness,
        indices: Sequence[int],
    ) -> Rollouts:
        """Responses that begin with given tokens; see the protocol.

        Raises:
            ValueError: If there is no prompt, or a prompt or what is given is too long.
            FloatingPointError: If the policy's logits are not finite.
        """
        check_request(prompts, group_size=count, greedy=False)
        ids, mask = policy.encode(prompts, reserve=self.max_new_tokens)
        sampled = Sampled.begun(prefixes, count, self.max_new_tokens, policy, ids.device)
        numbers = (index * count + n for index in indices for n in range(count))
        uniforms = _uniforms(randomness, "continuation", numbers, self.max_new_tokens)
        read = sampled.behind(ids, mask, count)
        self._decode_all(_Work(policy, *read, sampled, uniforms.to(ids.device), count))
        return sampled.rollouts(
            policy, prompts, ids, mask, temperature=self.temperature, spans=False
        )

    def _decode_all(self, work: _Work) -> None:
        """Fill in all rows of what is sampled."""
        decode = self._decode if self.decoding is Decoding.dynamic else self._decode_in_buffers
        with torch.no_grad(), evaluating(work.policy.model):
            model = self._weights(work.policy.model)
            for rows in self._chunks(len(work.ids), work.group_size):
                decode(work, model, rows)

    def _weights(self, model: PreTrainedModel) -> PreTrainedModel:
        """The model that samples: the policy's own, or the copy with the policy's newest weights.

        Parameters alone change their format: rotary frequencies and other buffers stay as they are.
        """
        if self.dtype is None:
            return model
        slot = self._slot
        if slot.source is not model or slot.copy is None:
            slot.source, slot.copy = model, deepcopy(model)
            for parameter in slot.copy.parameters():
                parameter.requires_grad_(False)
                parameter.data = parameter.data.to(self.dtype.torch)
        else:
            pairs = zip(slot.copy.parameters(), model.parameters(), strict=True)
            for copied, parameter in pairs:
                copied.copy_(parameter)
        return slot.copy.eval()

    def _chunks(self, num_prompts: int, group_size: int) -> Iterator[range]:
        """Rows of the flat [P * G] batch that are decoded at once: whole groups, if they fit."""
        whole = max(1, self.max_rows // group_size) * group_size
        for start in range(0, num_prompts * group_size, whole):
            stop = min(start + whole, num_prompts * group_size)
            for inner in range(start, stop, self.max_rows):
                yield range(inner, min(inner + self.max_rows, stop))

    def _decode(self, work: _Work, model: PreTrainedModel, rows: range) -> None:
        """Fill in some rows, each from where it was begun."""
        policy, ids, mask = work.policy, work.ids, work.mask
        sampled, uniforms, group_size = work.sampled, work.uniforms, work.group_size
        alive = torch.tensor(rows, device=ids.device)
        begun = sampled.mask.sum(dim=1)
        prompts = torch.arange(rows[0] // group_size, rows[-1] // group_size + 1, device=ids.device)
        skip = int((~mask[prompts]).sum(1).min())
        state = self._read(policy.packing, model, ids[prompts, skip:], mask[prompts, skip:])
        state.take(alive // group_size - prompts[0])
        ends = torch.tensor(sorted(policy.eos_ids), device=ids.device)
        for number in range(self.max_new_tokens):
            position = begun[alive] + number
            draws = None if uniforms is None else uniforms[alive, position]
            tokens, logprobs = draw(state.logits, draws, temperature=self.temperature)
            sampled.ids[alive, position] = tokens
            sampled.mask[alive, position] = True
            sampled.logprobs[alive, position] = logprobs.to(sampled.logprobs.dtype)
            ended = torch.isin(tokens, ends)
            sampled.finished[alive[ended]] = True
            stops = ended | (position + 1 == self.max_new_tokens)
            if stops.any():
                going = (~stops).nonzero().squeeze(1)
                if not len(going):
                    return
                alive, tokens = alive[going], tokens[going]
                state.take(going)
            state.advance(model, tokens)

    def _read(
        self,
        packing: Packing,
        model: PreTrainedModel,
        ids: Int[Tensor, "P L"],
        mask: Bool[Tensor, "P L"],
    ) -> CacheState | PrefixState:
        """One row per prompt, read once."""
        if packing is Packing.shared_prefix:
            return PrefixState.read(model, ids, mask, room=self.max_new_tokens)
        return CacheState.read(model, ids, mask)

    def _decode_in_buffers(self, work: _Work, model: PreTrainedModel, rows: range) -> None:
        """Fill in some rows; they are whole groups, or some rows of one."""
        policy, ids, mask = work.policy, work.ids, work.mask
        sampled, uniforms, group_size = work.sampled, work.uniforms, work.group_size
        first, last = rows[0] // group_size, rows[-1] // group_size + 1
        part, slot = slice(rows.start, rows.stop), self._slot
        if slot.decoder is None or not slot.decoder.is_for(model, policy.eos_ids):
            slot.decoder = None  # its buffers are freed before others are made
            slot.decoder = StaticDecoder(
                model=model,
                room=self.max_new_tokens,
                temperature=self.temperature,
                ends=policy.eos_ids,
                filler=pad_id(policy.tokenizer, policy.eos_ids),
                graphs=self.decoding is Decoding.cuda_graphs,
            )
        # A row that was begun draws on from its own place; what lies beyond the cap is left out.
        begun = sampled.mask[part].sum(1, keepdim=True)
        places = begun + torch.arange(self.max_new_tokens, device=ids.device)
        last_place = self.max_new_tokens - 1
        shifted = None
        if uniforms is not None:
            shifted = uniforms[part].gather(1, places.clamp(max=last_place))
        drawn = slot.decoder(
            ids[first:last],
            mask[first:last],
            group=len(rows) // (last - first),
            uniforms=shifted,
        )
        kept = drawn.mask & (places <= last_place)
        at = kept.nonzero()[:, 0], places[kept]
        sampled.ids[part][at], sampled.mask[part][at] = drawn.ids[kept], True
        sampled.logprobs[part][at] = drawn.logprobs[kept].to(sampled.logprobs.dtype)
        sampled.finished[part] = drawn.finished & (kept.sum(1) == drawn.mask.sum(1))


def draw(
    logits: Float[Tensor, "B V"], uniforms: Float[Tensor, " B"] | None, *, temperature: float
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """A token per row and its log-probability, in float64, under softmax(logits / temperature).

    The token is the inverse cumulative distribution at the row's uniform number; the most probable
    one where ``uniforms`` is None.

    Raises:
        FloatingPointError: If logits are not finite.
    """
    wide = logits.double()
    probabilities = (wide if temperature == 1 else wide / temperature).softmax(-1)
    if uniforms is None:
        tokens = logits.argmax(-1)
        checked = probabilities.sum(-1)
    else:
        cumulative = probabilities.cumsum(-1)
        checked = cumulative[:, -1]
        # right=True never lands on a token of probability 0; u < 1 keeps it inside the vocabulary
        target = (uniforms * checked)[:, None]
        tokens = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    if not bool(torch.isfinite(checked).all()):
        raise FloatingPointError(
            "the policy's logits are not finite, so no token can be drawn; the training diverged "
            "(lower the learning rate), or the weights are damaged"
        )
    return tokens, probabilities.gather(-1, tokens[:, None]).squeeze(-1).log()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode (no dropout); afterwards every part is as before."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _uniforms(
    randomness: Randomness, purpose: str, numbers: Iterable[int], length: int
) -> Float[Tensor, "B T"]:
    return torch.stack(
        [
            torch.rand(length, generator=randomness.generator(purpose, number), dtype=torch.float64)
            for number in numbers
        ]
    )
