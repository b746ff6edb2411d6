"""Vectors of parts of a text, pooled from the token vectors of the whole: one pass for all parts.

A mean-pooled encoder's vector is the mean over a text's token vectors. A part of a text has some of
its tokens, so its vector is taken to be the mean over these, as they came out of the whole. That is
exact where tokens do not look at each other, and an approximation elsewhere: what is left out was
still read by what is kept. Derived here; its error is measured by ``scripts/bench_shortcut.py``.

Imported when it is first needed: sentence-transformers takes seconds to import.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import Tensor

from rlcredit.retrieval.approximate import ApproximateIndex
from rlcredit.retrieval.base import Index
from rlcredit.retrieval.embedder import Batch, SentenceEmbedder, has_word
from rlcredit.retrieval.vectors import VectorIndex, unit_rows

_WORD = re.compile(r"\w+|[^\w\s]")
_MARKS = frozenset(",;:.!?|")
"""Between phrases."""
_SETTING = "reward.shortcut=repool"


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """N parts."""

    found: Bool[Tensor, " N"]
    """False where a part is not made of the whole's words, or of no word that the model knows."""
    rows: Float[Tensor, "N D"]
    """Vectors in the space of the encoder; zero where not found."""
    num_passes: int
    """Wholes that went through the model."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Repooler:
    """Pools parts from wholes.

    A part is found as runs of the whole's words, in order; its tokens are those whose characters
    lie in the runs, whatever the tokenizer.
    """

    embed: SentenceEmbedder
    ends: bool = False
    """Pool [CLS], [SEP] and a prompt's tokens with every part, as where it is encoded by itself.
    They have read most of what is left out, and measured the credit is worse with them
    (EXPERIMENTS.md), so only the whole itself has them, and so gets the exact vector."""

    @classmethod
    def of(cls, index: Index) -> "Repooler":
        """The pooler of an index's own encoder.

        Raises:
            ValueError: If the index has no sentence encoder, or one that does not pool by the mean.
        """
        exact = index.exact if isinstance(index, ApproximateIndex) else index
        embed = exact.embed if isinstance(exact, VectorIndex) else None
        remedy = "take retriever=minilm or another mean-pooled encoder, or set reward.shortcut=null"
        if not isinstance(embed, SentenceEmbedder):
            name = type(exact if embed is None else embed).__name__
            raise ValueError(
                f"{_SETTING} pools token vectors of a sentence encoder, and the retriever "
                f"({name}) has none; {remedy}"
            )
        pooling = next((m for m in embed.model.children() if isinstance(m, Pooling)), None)
        mode = "without a pooling layer" if pooling is None else f"by {pooling.pooling_mode}"
        if pooling is None or pooling.pooling_mode != "mean" or pooling is not embed.model[1]:
            raise ValueError(
                f"{_SETTING} needs a model that takes the mean over its tokens right behind the "
                f"transformer, and the retriever's pools {mode}; {remedy}"
            )
        if embed.prompt and not pooling.include_prompt:
            raise ValueError(
                f"{_SETTING} pools a prompt's tokens with the text's, and the retriever's model "
                f"leaves its prompt {embed.prompt!r} out; {remedy}"
            )
        return cls(embed=embed)

    @torch.no_grad()
    def __call__(self, parts: Sequence[str], wholes: Sequence[str]) -> Pooled:
        """Vectors of parts.

        Args:
            parts: N texts.
            wholes: The text that each is a part of; each distinct one is encoded once.
        """
        embed = self.embed
        found = torch.zeros(len(parts), dtype=torch.bool)
        rows = torch.zeros(len(parts), embed.num_dimensions)
        asked: dict[str, list[int]] = {}
        for number, whole in enumerate(wholes):
            asked.setdefault(whole, []).append(number)
        distinct = sorted(asked)  # whatever the order of the parts, the batches are the same
        passes = 0
        for batch in embed.batches(distinct):
            states = self._token_vectors(batch)
            for row, offsets in enumerate(batch.offsets):
                whole = distinct[int(batch.picked[row])]
                cut = bool(batch.truncated[row])
                tokens = _Tokens.of(whole, offsets, prompt=len(embed.prompt), cut=cut)
                ids = batch.features["input_ids"][row].cpu()
                members = tokens.members([parts[i] for i in asked[whole]], ends=self.ends)
                own = (members & tokens.inside & ~self._special(ids)).any(dim=1)
                kept = torch.tensor(asked[whole])[own]
                if len(kept):
                    found[kept] = True
                    rows[kept] = self._pooled(states[row], members[own]).cpu()
            passes += len(batch.picked)
        return Pooled(found=found, rows=rows, num_passes=passes)

    def _token_vectors(self, batch: Batch) -> Float[Tensor, "N L D"]:
        with self.embed.autocast():
            trunk: Any = self.embed.model[0]
            return trunk(dict(batch.features))["token_embeddings"].float()

    def _special(self, ids: Int[Tensor, " L"]) -> Bool[Tensor, " L"]:
        """True for tokens that say nothing of a text, the unknown one among them."""
        return torch.isin(ids, torch.tensor(sorted(self.embed.model.tokenizer.all_special_ids)))

    def _pooled(
        self, states: Float[Tensor, "L D"], members: Bool[Tensor, "n L"]
    ) -> Float[Tensor, "n D"]:
        """Means over tokens, on their way through what the model has behind its pooling."""
        features: dict[str, Any] = {"sentence_embedding": means(states, members.to(states.device))}
        for module in list(self.embed.model.children())[2:]:
            features = module(features)
        vectors = features["sentence_embedding"].float()
        return unit_rows(vectors) if self.embed.unit else vectors


def means(states: Float[Tensor, "L D"], members: Bool[Tensor, "n L"]) -> Float[Tensor, "n D"]:
    """The mean vector of each set of tokens; no set is empty."""
    weights = members.to(states.dtype)
    return (weights @ states) / weights.sum(dim=1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """A text's tokens and the words they are of."""

    words: list[str]
    read: int
    """So many words are read; the encoder cuts what is behind."""
    word_of: Float[Tensor, "L W"]
    """1 where a token has characters of a word."""
    inside: Bool[Tensor, " L"]
    """False for tokens that are of no word: special ones, and a prompt's."""

    @classmethod
    def of(
        cls, text: str, offsets: Sequence[tuple[int, int]], *, prompt: int, cut: bool
    ) -> "_Tokens":
        """Put words and tokens side by side.

        Args:
            text: The whole.
            offsets: L half-open spans of characters, of the prompt and the text behind it.
            prompt: Length of the prompt.
            cut: The encoder does not read the end. (Else what has no token, such as a control
                character, is read and says nothing.)
        """
        found = [(word.group(), *word.span()) for word in _WORD.finditer(text)]
        spans = torch.tensor(offsets).sub(prompt)
        starts, ends = torch.tensor([[start, end] for _, start, end in found]).unbind(1)
        overlap = (spans[:, :1] < ends) & (spans[:, 1:] > starts) & (spans[:, :1] < spans[:, 1:])
        last = int(spans.max())
        return cls(
            words=[word for word, _, _ in found],
            read=int((ends <= last).sum()) if cut else len(found),
            word_of=overlap.float(),
            inside=overlap.any(dim=1),
        )

    def members(self, parts: Sequence[str], *, ends: bool) -> Bool[Tensor, "n L"]:
        """The tokens of each part; none where it is not found, and all where it is the whole."""
        chosen = torch.zeros(len(parts), len(self.words), dtype=torch.bool)
        for row, part in enumerate(parts):
            words = _WORD.findall(part) if has_word(part) else []
            for run in runs_of(words, self.words[: self.read]) or ():
                chosen[row, run.start : run.stop] = True
        tokens = (chosen.float() @ self.word_of.T) > 0
        complete = (tokens | ~self.inside).all(dim=1)
        with_ends = complete | chosen.any(dim=1) if ends else complete
        return tokens | (with_ends[:, None] & ~self.inside)


def runs_of(part: Sequence[str], whole: Sequence[str]) -> list[range] | None:
    """Runs of the whole's words that, one behind the other, are the part; None: there are none.

    A run that begins and ends where a phrase does (at a mark, or at an end of the whole) is taken
    before others, then a longer one, then an earlier one. So "tent" is the second phrase of "red
    tent, tent", not the end of the first. Where that leads nowhere, the first place where the whole
    part stands is taken.

    >>> runs_of(["a", ",", "c"], ["a", ",", "b", ",", "c"])
    [range(0, 2), range(4, 5)]
    """
    runs: list[range] = []
    at = after = 0
    while at < len(part):
        found = _next_run(part[at:], whole, after)
        if found is None:
            return _places(part, whole, 0)[:1] or None
        runs.append(found)
        at, after = at + len(found), found.stop
    return runs


def _next_run(part: Sequence[str], whole: Sequence[str], after: int) -> range | None:
    """The run that the part begins with."""
    loose: range | None = None
    for length in range(len(part), 0, -1):
        for run in _places(part[:length], whole, after):
            if _is_bounded(run, whole):
                return run
            loose = loose or run
    return loose


def _places(words: Sequence[str], whole: Sequence[str], after: int) -> list[range]:
    """Where the words stand in the whole."""
    length = len(words)
    return [
        range(start, start + length)
        for start in range(after, len(whole) - length + 1)
        if whole[start] == words[0] and whole[start : start + length] == words
    ]


def _is_bounded(run: range, whole: Sequence[str]) -> bool:
    starts = run.start == 0 or whole[run.start - 1] in _MARKS
    return starts and (run.stop == len(whole) or bool({whole[run.stop], whole[run[-1]]} & _MARKS))
