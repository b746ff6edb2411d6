"""What every rollout engine shares: the range of its settings, and sampled rows as a record."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.policy.base import Policy
from rlcredit.policy.causal_lm import pad_id
from rlcredit.scoring.responses import of_tokens
from rlcredit.text.response import opened_thought
from rlcredit.types import Prompt, Rollouts


def check_settings(*, max_new_tokens: int, temperature: float, max_rows: int) -> None:
    """Refuse settings that no engine can sample with: ValueError."""
    if max_new_tokens < 1:
        raise ValueError(f"rollout.max_new_tokens={max_new_tokens}, but must be 1 or more")
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"rollout.temperature={temperature} must be above 0; the most probable "
            "response comes from greedy decoding, not from temperature 0"
        )
    if max_rows < 1:
        raise ValueError(f"rollout.max_rows={max_rows}, but must be 1 or more")


def check_request(prompts: Sequence[Prompt], *, group_size: int, greedy: bool) -> None:
    """Refuse an empty batch, and siblings that would all be the same: ValueError."""
    if not prompts or group_size < 1:
        raise ValueError(
            f"{len(prompts)} prompts x {group_size} responses: a rollout needs at least one "
            "prompt and one response to it"
        )
    if greedy and group_size > 1:
        raise ValueError(
            f"{group_size} greedy responses to a prompt would all be the same; use group_size=1"
        )


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """What has been drawn so far, by row of the flattened [P * G] batch."""

    ids: Int[Tensor, "B T"]
    mask: Bool[Tensor, "B T"]
    logprobs: Float[Tensor, "B T"]
    finished: Bool[Tensor, " B"]

    @classmethod
    def empty(cls, rows: int, length: int, policy: Policy, device: torch.device) -> "Sampled":
        """Nothing drawn yet."""
        wide = policy.model.dtype == torch.float64
        return cls(
            ids=torch.full((rows, length), pad_id(policy.tokenizer, policy.eos_ids), device=device),
            mask=torch.zeros(rows, length, dtype=torch.bool, device=device),
            logprobs=torch.zeros(
                rows, length, dtype=torch.float64 if wide else torch.float32, device=device
            ),
            finished=torch.zeros(rows, dtype=torch.bool, device=device),
        )

    @classmethod
    def begun(
        cls,
        prefixes: Sequence[Sequence[int]],
        count: int,
        length: int,
        policy: Policy,
        device: torch.device,
    ) -> "Sampled":
        """Rows that begin with given tokens, ``count`` for each prefix.

        Raises:
            ValueError: If a prefix leaves no room for a token.
        """
        longest = max(map(len, prefixes))
        if longest >= length:
            raise ValueError(
                f"a response is to go on from {longest} tokens, and rollout.max_new_tokens="
                f"{length} leaves no room; give shorter prefixes"
            )
        sampled = cls.empty(len(prefixes) * count, length, policy, device)
        for number, prefix in enumerate(prefixes):
            rows = slice(number * count, (number + 1) * count)
            sampled.ids[rows, : len(prefix)] = torch.tensor(prefix, dtype=torch.long, device=device)
            sampled.mask[rows, : len(prefix)] = True
        return sampled

    def behind(
        self, ids: Int[Tensor, "P L"], mask: Bool[Tensor, "P L"], count: int
    ) -> tuple[Int[Tensor, "P L2"], Bool[Tensor, "P L2"]]:
        """The prompts with what each ``count`` rows have been begun with, left-padded."""
        own, there = self.ids[::count], self.mask[::count]
        rows = torch.cat([ids, own], dim=1)
        kept = torch.cat([mask, there], dim=1)
        kept, order = kept.to(torch.uint8).sort(dim=1, stable=True)
        longest = int(kept.sum(dim=1).max())
        return rows.gather(1, order)[:, -longest:], kept[:, -longest:].bool()

    def rollouts(
        self,
        policy: Policy,
        prompts: Sequence[Prompt],
        ids: Int[Tensor, "P L"],
        mask: Bool[Tensor, "P L"],
        *,
        temperature: float,
        spans: bool = True,
    ) -> Rollouts:
        """The record, as wide as the longest response.

        Args:
            policy: Decodes the tokens.
            prompts: P of them; the rows are G responses to each, in order.
            ids: The prompts' tokens, left-padded.
            mask: Which of them count.
            temperature: Of the distribution that was sampled from.
            spans: Find the characters of each token.

        Raises:
            RuntimeError: If a response is short: it neither ends with an end token nor fills the
                length cap.
        """
        self._refuse_short(policy.eos_ids)
        length = int(self.mask.sum(1).max())
        groups = (len(prompts), len(self.ids) // len(prompts))
        read = of_tokens(
            prompts,
            self.ids[:, :length].unflatten(0, groups),
            self.mask[:, :length].unflatten(0, groups),
            policy.tokenizer,
            opened=_opened(policy, ids, mask),
            spans=spans,
        )
        return Rollouts(
            prompts=read.prompts,
            texts=read.texts,
            prompt_ids=ids,
            prompt_mask=mask,
            response_ids=self.ids[:, :length].unflatten(0, groups),
            response_mask=read.response_mask,
            char_spans=read.char_spans,
            rollout_logprobs=self.logprobs[:, :length].unflatten(0, groups),
            finished=self.finished.unflatten(0, groups),
            temperature=temperature,
        )

    def _refuse_short(self, eos_ids: frozenset[int]) -> None:
        """Every row ends with an end token and is finished, or fills the cap and is not."""
        lengths = self.mask.sum(1)
        last = self.ids.gather(1, (lengths - 1).clamp(min=0)[:, None]).squeeze(1)
        ends = torch.isin(last, torch.tensor(sorted(eos_ids), device=last.device)) & (lengths > 0)
        whole = torch.where(self.finished, ends, ~ends & (lengths == self.ids.shape[1]))
        if bool(whole.all()):
            return
        rows = (~whole).nonzero().squeeze(1).tolist()
        raise RuntimeError(
            f"{len(rows)} of {len(whole)} responses are incomplete (the first is row {rows[0]}, "
            f"with {int(lengths[rows[0]])} tokens of at most {self.ids.shape[1]} and no end): the "
            "rollout engine gave up on them; look for its warning above, and lower "
            "rollout.max_rows or raise its cache"
        )


_TAIL = 16
"""Last tokens of a prompt among which a thought is opened."""


def _opened(policy: Policy, ids: Int[Tensor, "P L"], mask: Bool[Tensor, "P L"]) -> list[str]:
    """The thought that each prompt opens for its responses; "" where it opens none."""
    tails = [row[kept][-_TAIL:].tolist() for row, kept in zip(ids, mask, strict=True)]
    read = policy.tokenizer.batch_decode(
        tails, skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return [opened_thought(text) for text in read]
