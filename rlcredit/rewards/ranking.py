"""Search as a reward: how well a text, put into a retriever, ranks a prompt's documents.

Knows texts, documents and grades; not who wrote a text, nor how a retriever works. One call encodes
its distinct texts at once and loops over distinct prompts alone.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum, auto
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.estimators.base import SetUtility
from rlcredit.retrieval.base import Index
from rlcredit.retrieval.measures import Measure, order, rank_grades
from rlcredit.rewards.pools import EXACT, Pool, Pools
from rlcredit.types import Prompt

_log = logging.getLogger(__name__)

_SCORES_AT_ONCE = 2**24
"""Bounds the memory of one product of texts and documents."""


_COVERED = 10
"""Ranks that a set's coverage counts, where the measure has no cut-off."""


class Scope(StrEnum):
    """Which documents are ranked."""

    pool = auto()
    """The prompt's pool, where it has one."""
    catalogue = auto()


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The measure of the ranking that a text gets from a retriever."""

    measure: Measure
    utility: SetUtility
    """What a set of candidates earns, where a task asks for sets."""
    scope: Scope = Scope.pool

    def bind(self, index: Index, *, failures: Path | None = None) -> "RankingReward":
        """The reward over an index.

        Args:
            index: What is searched.
            failures: Folder for the texts that a retriever fails on; None: they are not kept.
        """
        return RankingReward(
            measure=self.measure,
            index=index,
            pools=Pools(index=index, whole=self.scope is Scope.catalogue),
            failures=failures,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingReward:
    """A :class:`Reward`: texts are search texts by now (see ``TextRules.search_text``).

    A text that the index knows nothing of retrieves nothing and gets exactly 0. Ties are broken by
    document id, descending. A pool smaller than the measure's cut-off is ranked whole.
    """

    measure: Measure
    index: Index
    pools: Pools
    failures: Path | None = None
    _short: set[int] = field(default_factory=set, init=False, repr=False)

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The measure, for each text and the prompt beside it, in float32.

        Raises:
            ValueError: If the two lengths differ, or a prompt cannot be scored (:class:`Pools`).
            RuntimeError: If the retriever fails, or a score is not a number.
        """
        call = _Call.of(prompts, texts)
        ranked, judged = self._ranked(call, self.measure.cutoff)
        return self.measure(ranked, judged).float()[call.pair_of]

    def ranked(
        self, prompts: Sequence[Prompt], texts: Sequence[str], *, depth: int | None = None
    ) -> tuple[Int[Tensor, "N D"], Int[Tensor, "N J"]]:
        """What measures read: grades in rank order, and the grades of all judged documents.

        Args:
            prompts: N of them.
            texts: The search text beside each.
            depth: So many ranks; None: all. A measure needs its cut-off's.

        Returns:
            (ranked, judged), both padded with 0 on the right.
        """
        call = _Call.of(prompts, texts)
        ranked, judged = self._ranked(call, depth)
        return ranked[call.pair_of], judged[call.pair_of]

    def covered(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[frozenset[str]]:
        """The documents of the highest grade that each text finds within the measure's cut-off."""
        depth = self.measure.cutoff or _COVERED
        return [
            frozenset(d for d, _ in ranking if prompt.relevance.get(d, 0) == EXACT)
            for prompt, ranking in zip(prompts, self.run(prompts, texts, depth=depth), strict=True)
        ]

    def run(
        self, prompts: Sequence[Prompt], texts: Sequence[str], *, depth: int
    ) -> list[list[tuple[str, float]]]:
        """The first ``depth`` retrieved documents with their scores, for each prompt and text."""
        call = _Call.of(prompts, texts)
        found: list[list[tuple[str, float]]] = [[] for _ in call.pairs]
        for pool, pairs, scores in self._scored(call):
            columns = order(scores, depth=depth)
            best = scores.gather(1, columns)
            for pair, row, values in zip(pairs.tolist(), columns.tolist(), best, strict=True):
                kept = row[: int((values > -torch.inf).sum())]
                found[pair] = [
                    (pool.document_ids[column], value)
                    for column, value in zip(kept, values.tolist(), strict=False)
                ]
        return [found[pair] for pair in call.pair_of.tolist()]

    def _ranked(
        self, call: "_Call", depth: int | None
    ) -> tuple[Int[Tensor, "N D"], Int[Tensor, "N J"]]:
        """Of the distinct pairs."""
        if not call.pairs:
            nothing = torch.zeros(0, 0, dtype=torch.int16)
            return nothing, nothing
        pools = [self.pools(prompt) for prompt in call.prompts]
        for pool in pools:
            self._say_if_short(pool)
        longest = max(len(pool.document_ids) for pool in pools)
        ranked = torch.zeros(
            len(call.pairs), longest if depth is None else min(depth, longest), dtype=torch.int16
        )
        for pool, pairs, scores in self._scored(call):
            grades = rank_grades(scores, pool.grades().expand(len(scores), -1), depth=depth)
            ranked[pairs, : grades.shape[1]] = grades
        judged = torch.nn.utils.rnn.pad_sequence([p.judged for p in pools], batch_first=True)
        return ranked, judged[[prompt for prompt, _ in call.pairs]]

    def _scored(self, call: "_Call") -> Iterator[tuple[Pool, Int[Tensor, " n"], Tensor]]:
        """Scores of each prompt's distinct texts: its pool, the pairs' numbers, [n, K]."""
        try:
            encoded = self.index.encode(call.texts)
        except Exception as error:
            self._fail(call.texts, f"raised {type(error).__name__}: {error}", error)
        by_prompt: list[list[int]] = [[] for _ in call.prompts]
        for number, (prompt, _) in enumerate(call.pairs):
            by_prompt[prompt].append(number)
        row_of = torch.tensor([text for _, text in call.pairs])
        for prompt, numbers in zip(call.prompts, by_prompt, strict=True):
            pool = self.pools(prompt)
            at_once = max(_SCORES_AT_ONCE // max(len(pool.document_ids), 1), 1)
            for pairs in torch.tensor(numbers).split(at_once):
                rows = row_of[pairs]
                try:
                    scores = self.index.score(encoded, rows, pool.documents)
                except Exception as error:
                    texts = [call.texts[row] for row in rows.tolist()]
                    self._fail(texts, f"raised {type(error).__name__}: {error}", error)
                if not (scores < torch.inf).all():  # NaN is not less
                    odd = ~(scores < torch.inf).all(dim=1)
                    texts = [call.texts[row] for row in rows[odd].tolist()]
                    self._fail(texts, f"gave scores that are no numbers for {prompt.prompt_id!r}")
                yield pool, pairs, scores

    def _fail(self, texts: Sequence[str], what: str, cause: Exception | None = None) -> NoReturn:
        raise RuntimeError(
            f"the retriever {what}, on {len(texts)} texts, of which the first is {texts[0]!r}; "
            f"{self._kept(texts, what)}; no reward was given for them"
        ) from cause

    def _kept(self, texts: Sequence[str], what: str) -> str:
        """Save the texts of a failure; what became of them."""
        if self.failures is None:
            return "they were not saved (bind the reward with failures=<folder>)"
        content = json.dumps({"failure": what, "texts": list(texts)}, ensure_ascii=False, indent=1)
        name = blake2b(content.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        path = self.failures / f"retriever-{name}.json"
        try:
            self.failures.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", errors="surrogatepass")
        except OSError as error:
            return f"they could not be saved as {path} ({error})"
        return f"they are saved in {path}"

    def _say_if_short(self, pool: Pool) -> None:
        cutoff, size = self.measure.cutoff, len(pool.document_ids)
        if cutoff is None or size >= cutoff or self._short:
            return
        self._short.add(size)
        _log.warning(
            "prompt %r has a pool of %d documents, fewer than the %d ranks of %s: it is ranked "
            "whole, and the measure is harder to miss. Said once",
            pool.prompt.prompt_id,
            size,
            cutoff,
            self.measure.name,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Call:
    """What one call asks for, without repetitions."""

    prompts: list[Prompt]
    texts: list[str]
    pairs: list[tuple[int, int]]
    """Distinct pairs, as numbers of prompt and text."""
    pair_of: Int[Tensor, " N"]
    """The pair that each asked one is."""

    @classmethod
    def of(cls, prompts: Sequence[Prompt], texts: Sequence[str]) -> "_Call":
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


def _numbered(names: Sequence[str]) -> list[int]:
    """Of each name, its number among the distinct ones, in order of appearance."""
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names]
