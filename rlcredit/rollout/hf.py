"""Sampling with the Hugging Face model itself: a decode loop of our own.

A prompt is read once, whatever the group's size. Rows that ended leave the batch. Neither changes a
sample: each rollout draws from a stream of its own, one uniform number per position.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from rlcredit.policy.base import Policy
from rlcredit.policy.packing import Packing
from rlcredit.rollout.decoding import CacheState, PrefixState
from rlcredit.rollout.sampled import Sampled, check_request, check_settings
from rlcredit.types import Prompt, Randomness, Rollouts


@dataclass(frozen=True, kw_only=True)
class HFRollout:
    """Samples responses with the policy's own model, in the training process.

    Raises:
        ValueError: If a setting is out of its range.
    """

    max_new_tokens: int = 32
    temperature: float = 1.0
    max_rows: int = 256
    """Responses that are decoded at once; bounds the memory of the key-value cache."""

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
        with torch.no_grad(), evaluating(policy.model):
            for rows in self._chunks(len(prompts), group_size):
                self._decode(policy, ids, mask, sampled, uniforms, rows, group_size)
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
        with torch.no_grad(), evaluating(policy.model):
            for rows in self._chunks(len(prompts), count):
                self._decode(policy, *read, sampled, uniforms.to(ids.device), rows, count)
        return sampled.rollouts(
            policy, prompts, ids, mask, temperature=self.temperature, spans=False
        )

    def _chunks(self, num_prompts: int, group_size: int) -> Iterator[range]:
        """Rows of the flat [P * G] batch that are decoded at once: whole groups, if they fit."""
        whole = max(1, self.max_rows // group_size) * group_size
        for start in range(0, num_prompts * group_size, whole):
            stop = min(start + whole, num_prompts * group_size)
            for inner in range(start, stop, self.max_rows):
                yield range(inner, min(inner + self.max_rows, stop))

    def _decode(
        self,
        policy: Policy,
        ids: Int[Tensor, "P L"],
        mask: Bool[Tensor, "P L"],
        sampled: Sampled,
        uniforms: Float[Tensor, "B T"] | None,
        rows: range,
        group_size: int,
    ) -> None:
        """Fill in the rows of ``sampled``, each from where it was begun."""
        alive = torch.tensor(rows, device=ids.device)
        begun = sampled.mask.sum(dim=1)
        prompts = torch.arange(rows[0] // group_size, rows[-1] // group_size + 1, device=ids.device)
        skip = int((~mask[prompts]).sum(1).min())
        state = self._read(policy, ids[prompts, skip:], mask[prompts, skip:])
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
            state.advance(policy, tokens)

    def _read(
        self, policy: Policy, ids: Int[Tensor, "P L"], mask: Bool[Tensor, "P L"]
    ) -> CacheState | PrefixState:
        """One row per prompt, read once."""
        if policy.packing is Packing.shared_prefix:
            return PrefixState.read(policy, ids, mask, room=self.max_new_tokens)
        return CacheState.read(policy, ids, mask)


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
