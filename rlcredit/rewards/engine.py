"""The engine under a reward: what is asked for is planned, encoded once, remembered and counted."""

import logging
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.retrieval.base import Encoded, Index
from rlcredit.rewards.caches import Caches, Key
from rlcredit.rewards.failures import Failures
from rlcredit.types import Counts, Prompt

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Engine:
    """Encodes texts with an index's encoder, each distinct one once, over calls and steps."""

    index: Index
    caches: Caches
    fail: Failures
    _counts: list[Counts] = field(default_factory=lambda: [Counts()], init=False, repr=False)
    _said: set[str] = field(default_factory=set, init=False, repr=False)

    @property
    def counts(self) -> Counts:
        """Since the engine was made."""
        return self._counts[0]

    def count(self, more: Counts) -> None:
        """Add to the counts."""
        self._counts[0] += more

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Rows of distinct texts: those remembered, and the others in one batch.

        Raises:
            RuntimeError: If the encoder fails; the texts are saved.
        """
        kind = self.index.encoding
        if kind is None:  # costs less than remembering it
            self.count(Counts(texts=len(texts)))
            return self._computed(texts)
        keys: list[Key] = [(kind, text) for text in texts]
        known, rows = self.caches.encodings.get(keys)
        missing: list[int] = (~known).nonzero().squeeze(1).tolist()
        if missing:
            fresh = _packed(self._computed([texts[i] for i in missing]))
            odd: list[int] = (~fresh.isfinite().all(dim=1)).nonzero().squeeze(1).tolist()
            if odd:
                self.fail([texts[missing[i]] for i in odd], "gave vectors that are no numbers")
            self.caches.encodings.put([keys[i] for i in missing], fresh)
            whole = torch.empty(len(texts), fresh.shape[1])
            whole[~known] = fresh
            if known.any():
                whole[known] = rows
            rows = whole
        self.count(Counts(texts=len(texts), remembered_texts=len(texts) - len(missing)))
        return _unpacked(rows)

    def _computed(self, texts: Sequence[str]) -> Encoded:
        try:
            encoded = self.index.encode(texts)
        except Exception as error:
            self.fail(texts, f"raised {type(error).__name__}: {error}", error)
        if encoded.truncated is not None and encoded.truncated.any():
            number = int(encoded.truncated.sum())
            self.count(Counts(truncated=number))
            if "truncated" not in self._said:
                self._said.add("truncated")
                first = texts[int(encoded.truncated.nonzero()[0])]
                _log.warning(
                    "%d texts are longer than the encoder reads, and cut; the first begins %r. "
                    "Said once; perf/truncated_texts counts them",
                    number,
                    first[:60],
                )
        return encoded


def _packed(encoded: Encoded) -> Float[Tensor, "N D"]:
    """One float32 row per text: its vector, and the two flags."""
    flags = torch.stack([encoded.known, encoded.known & False], dim=1)
    if encoded.truncated is not None:
        flags[:, 1] = encoded.truncated
    return torch.cat([encoded.rows.float().cpu(), flags.float()], dim=1)


def _unpacked(rows: Float[Tensor, "N D"]) -> Encoded:
    return Encoded(
        known=rows[:, -2].bool(), truncated=rows[:, -1].bool(), rows=rows[:, :-2].contiguous()
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What one call asks for, without repetitions."""

    prompts: list[Prompt]
    texts: list[str]
    pairs: list[tuple[int, int]]
    """Distinct pairs, as numbers of prompt and text."""
    pair_of: Int[Tensor, " N"]
    """The pair that each asked one is."""

    @classmethod
    def of(cls, prompts: Sequence[Prompt], texts: Sequence[str]) -> "Plan":
        """Plan a call of search texts, in which white space says nothing.

        Raises:
            ValueError: If the lengths differ, or two different prompts have one id.
        """
        return cls.exactly(prompts, [" ".join(text.split()) for text in texts])

    @classmethod
    def exactly(cls, prompts: Sequence[Prompt], texts: Sequence[str]) -> "Plan":
        """Plan a call of texts that are read as they stand.

        Raises:
            ValueError: If the lengths differ, or two different prompts have one id.
        """
        if len(prompts) != len(texts):
            raise ValueError(f"{len(prompts)} prompts for {len(texts)} texts; a reward needs pairs")
        ids = [prompt.prompt_id for prompt in prompts]
        first = dict(zip(reversed(ids), reversed(prompts), strict=True))
        for prompt in prompts:
            known = first[prompt.prompt_id]
            if known is not prompt and known != prompt:
                raise ValueError(f"two different prompts have the id {prompt.prompt_id!r}")
        asked = list(zip(_numbered(ids), _numbered(texts), strict=True))
        distinct = dict.fromkeys(asked)
        number = {pair: i for i, pair in enumerate(distinct)}
        return cls(
            prompts=[first[i] for i in dict.fromkeys(ids)],
            texts=list(dict.fromkeys(texts)),
            pairs=list(distinct),
            pair_of=torch.tensor([number[pair] for pair in asked], dtype=torch.long),
        )

    def only(self, pairs: Sequence[int]) -> "Plan":
        """The plan of some of its distinct pairs."""
        kept = [self.pairs[pair] for pair in pairs]
        prompts = list(dict.fromkeys(prompt for prompt, _ in kept))
        texts = list(dict.fromkeys(text for _, text in kept))
        prompt_at = {prompt: i for i, prompt in enumerate(prompts)}
        text_at = {text: i for i, text in enumerate(texts)}
        return Plan(
            prompts=[self.prompts[prompt] for prompt in prompts],
            texts=[self.texts[text] for text in texts],
            pairs=[(prompt_at[prompt], text_at[text]) for prompt, text in kept],
            pair_of=torch.arange(len(kept)),
        )


def _numbered(names: Sequence[Hashable]) -> list[int]:
    """Number each name by its first appearance among the distinct ones."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names]
