"""Responses that offer several candidates: which they are, what each earns, what the set does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.estimators.base import SetUtility
from rlcredit.rewards.base import Reward
from rlcredit.rewards.costs import earned
from rlcredit.text.response import TextRules, segment_key
from rlcredit.text.spans import Span
from rlcredit.text.tokens import segment_ids
from rlcredit.types import CandidateRewards, Prompt, Responses


@runtime_checkable
class CoveringReward(Protocol):
    """A reward that can say which documents a text finds."""

    def covered(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[frozenset[str]]:
        """The relevant documents that each text finds for the prompt beside it."""
        ...


@dataclass(frozen=True, kw_only=True)
class CandidateSet:
    """One response's candidates."""

    spans: tuple[Span, ...]
    """Characters of the response's text that are scored of each candidate."""
    written: tuple[str, ...]
    """The same as texts."""
    texts: tuple[str, ...]
    """The candidates as they are searched with; "" where nothing of one counts."""

    @classmethod
    def of(cls, rules: TextRules, prompt: Prompt, response: str) -> "CandidateSet":
        """Cut a response into its candidates."""
        # Whether a candidate counts depends on its own words alone: rules that add the query to a
        # search text would make every candidate count.
        spans = rules.candidate_spans(response)
        own = [rules.search_text(span.of(response), query="") for span in spans]
        return cls(
            spans=spans,
            written=tuple(span.of(response) for span in spans),
            texts=tuple(
                rules.search_text(span.of(response), query=prompt.query) if text else ""
                for span, text in zip(spans, own, strict=True)
            ),
        )

    @property
    def listed(self) -> list[bool]:
        """Which candidates are not empty."""
        return [bool(text) for text in self.texts]

    @property
    def first(self) -> list[bool]:
        """Which candidates repeat no earlier one, case and spaces aside."""
        keys = [segment_key(text) for text in self.texts]
        return [keys.index(key) == index for index, key in enumerate(keys)]


@dataclass(frozen=True, kw_only=True)
class SetScorer:
    """Scores sets of candidates.

    Raises:
        ValueError: If the utility needs to know what a candidate covers, and the reward cannot say.
    """

    reward: Reward
    rules: TextRules
    utility: SetUtility

    def __post_init__(self) -> None:
        """Refuse a utility that cannot be computed."""
        if self.utility.reads_covers and not isinstance(self.reward, CoveringReward):
            raise ValueError(
                f"{type(self.utility).__name__} needs to know which documents a candidate finds, "
                f"and {type(self.reward).__name__} does not say; use reward/utility=max"
            )

    def __call__(self, responses: Responses) -> tuple[CandidateRewards, Tensor, int]:
        """What each candidate earns, what each response does, and how many rewards were asked for.

        A response without exactly K candidates that count earns 0 as a set (arXiv:2603.29871; the
        rule is ours: else the policy learns to list one).
        """
        sets = self._sets(responses.prompts, responses.texts)
        ids = _token_ids(responses, [one for group in sets for one in group])
        ids = ids.to(responses.response_mask.device)
        candidates = self._candidates(responses.prompts, sets, ids)
        return candidates, self._utilities(candidates), int(candidates.mask.sum())

    def earned(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
    ) -> Float[Tensor, "P n"]:
        """What each of [P][n] responses earns as a set; nobody looks at tokens."""
        no_tokens = torch.zeros(len(texts), len(texts[0]), 0, dtype=torch.long)
        candidates = self._candidates(prompts, self._sets(prompts, texts), no_tokens)
        return self._utilities(candidates)

    def _sets(
        self, prompts: Sequence[Prompt], texts: Sequence[Sequence[str]]
    ) -> list[list[CandidateSet]]:
        return [
            [CandidateSet.of(self.rules, prompt, text) for text in group]
            for prompt, group in zip(prompts, texts, strict=True)
        ]

    def _utilities(self, candidates: CandidateRewards) -> Float[Tensor, "P G"]:
        """What each set earns; an incomplete one is scored as an empty one."""
        whole = candidates.mask & candidates.complete.unsqueeze(-1)
        return self.utility(candidates, whole).to(candidates.rewards.dtype)

    def _candidates(
        self,
        prompts: Sequence[Prompt],
        sets: Sequence[Sequence[CandidateSet]],
        candidate_ids: Int[Tensor, "P G T"],
    ) -> CandidateRewards:
        """What each candidate earns, in one call of the reward; on the device of the ids."""
        flat = [one for group in sets for one in group]
        most = max(1, *(len(one.texts) for one in flat))
        device, shape = candidate_ids.device, candidate_ids.shape[:2]
        mask = _padded([one.listed for one in flat], most)
        asked = [
            (prompt, text)
            for prompt, group in zip(prompts, sets, strict=True)
            for one in group
            for text in one.texts
            if text
        ]
        written = [
            own for one in flat for own, text in zip(one.written, one.texts, strict=True) if text
        ]
        # One call for all candidates that count. `asked` lists them response by response, which is
        # the order in which a boolean mask [P * G, K] takes its values.
        values = torch.zeros(0)
        if asked:
            owners, searched = [p for p, _ in asked], [text for _, text in asked]
            values = earned(self.reward, owners, written=written, searched=searched)
        rewards = values.new_zeros(mask.shape)
        rewards[mask] = values
        return CandidateRewards(
            rewards=rewards.unflatten(0, shape).to(device),
            mask=mask.unflatten(0, shape).to(device),
            candidate_ids=candidate_ids,
            num_asked=self.rules.num_candidates,
            first=_padded([one.first for one in flat], most).unflatten(0, shape).to(device),
            covers=self._covers(asked, mask, shape, device) if self.utility.reads_covers else None,
        )

    def _covers(
        self,
        asked: Sequence[tuple[Prompt, str]],
        mask: Bool[Tensor, "N K"],
        shape: torch.Size,
        device: torch.device,
    ) -> Bool[Tensor, "P G K E"]:
        """A column for each document that any candidate of the prompt's group finds."""
        assert isinstance(self.reward, CoveringReward)  # checked before anything was scored
        # Number each prompt's documents in the order in which they are first found; E is the most
        # that a prompt has, and the columns of different prompts mean different documents.
        found = self.reward.covered([p for p, _ in asked], [text for _, text in asked])
        columns: dict[str, dict[str, int]] = {}
        for (prompt, _), documents in zip(asked, found, strict=True):
            known = columns.setdefault(prompt.prompt_id, {})
            for document in sorted(documents):
                known.setdefault(document, len(known))
        width = max(1, *(len(known) for known in columns.values())) if columns else 1
        covers = torch.zeros(*mask.shape, width, dtype=torch.bool)
        rows = mask.nonzero().tolist()
        for (row, column), (prompt, _), documents in zip(rows, asked, found, strict=True):
            for document in documents:
                covers[row, column, columns[prompt.prompt_id][document]] = True
        return covers.unflatten(0, shape).to(device)


def _padded(rows: Sequence[Sequence[bool]], width: int) -> Bool[Tensor, "N K"]:
    return torch.tensor([[*row, *[False] * (width - len(row))] for row in rows], dtype=torch.bool)


def _token_ids(responses: Responses, sets: Sequence[CandidateSet]) -> Int[Tensor, "P G T"]:
    """The candidate of each token: that of which it writes more than half of its characters.

    A token that writes a tag's end and a word's beginning belongs to neither unless the word's part
    is the longer one.
    """
    # segment_ids says which candidate a token overlaps most; it keeps the token where the overlap
    # is more than half of the token's characters.
    chars = responses.spans.flatten(0, 1).cpu()
    rows = []
    for spans, one in zip(chars, sets, strict=True):
        ids = segment_ids(spans, one.spans)
        bounds = torch.tensor([*one.spans, Span(0, 0)])[ids]
        shared = torch.minimum(spans[:, 1], bounds[:, 1]) - torch.maximum(spans[:, 0], bounds[:, 0])
        rows.append(torch.where(2 * shared > spans[:, 1] - spans[:, 0], ids, -1))
    ids = torch.stack(rows).unflatten(0, responses.response_mask.shape[:2])
    return ids.masked_fill(~responses.response_mask.cpu(), -1)
