"""Search as a reward: how well a text, put into a retriever, ranks a prompt's documents.

Knows texts, documents and grades; not who wrote a text, nor how a retriever works. One call encodes
its distinct texts at once and loops over distinct prompts alone; what is known already is not asked
of the retriever again.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.estimators.base import SetUtility
from rlcredit.identity import ASIDE
from rlcredit.retrieval.base import Documents, Encoded, Index, Saturating, Searcher
from rlcredit.retrieval.measures import Measure, order, rank_grades
from rlcredit.retrieval.vectors import DOCUMENTS_AT_ONCE
from rlcredit.rewards.caches import Cache, Key
from rlcredit.rewards.costs import WordCosts, check_cost
from rlcredit.rewards.engine import Engine, Plan
from rlcredit.rewards.failures import Failures
from rlcredit.rewards.pools import EXACT, Pool, Pools
from rlcredit.text.words import vocabulary
from rlcredit.types import Counts, Prompt

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
    """The measure of the ranking that a text gets from a retriever, less what its words cost.

    earned = measure - unknown_cost * (words not in the catalogue) - word_cost * (words)

    Whole responses, coalitions and candidates are charged by one rule, for their own text as it is
    written: a phrase that the task does not count costs all the same, which a response pays as a
    whole, since such a phrase is no player. Measures of evaluations are free of costs. What is
    earned can be below 0 and is left there: cut off at 0, texts that find nothing would be alike
    however long they are. The empty text earns 0, so costs above what a good word gains teach
    silence; an incomplete set of candidates earns 0 too.

    Raises:
        ValueError: If a cost is negative or not finite.
    """

    measure: Measure
    """What a ranking is worth; ``reward=`` chooses it."""
    utility: SetUtility
    """What a set of candidates earns, where a task asks for sets."""
    scope: Scope = Scope.pool
    unknown_cost: float = 0.0
    """What a word costs that no document of the catalogue holds, in units of the measure."""
    word_cost: float = 0.0
    """What any word costs."""
    cache: Cache = field(default_factory=Cache, metadata=ASIDE)

    def __post_init__(self) -> None:
        """Check the costs."""
        check_cost("unknown_cost", self.unknown_cost)
        check_cost("word_cost", self.word_cost)

    def bind(
        self, index: Index, *, catalogue: Documents | None = None, failures: Path | None = None
    ) -> "RankingReward":
        """The reward over an index.

        Args:
            index: What is searched.
            catalogue: The documents whose words are known; needed where unknown ones cost.
            failures: Folder for the texts that a retriever fails on; None: they are not kept.

        Raises:
            OSError: If the cache's folder cannot be used.
        """
        known = None
        if self.unknown_cost and catalogue is not None:
            known = vocabulary(catalogue.texts)
        return RankingReward(
            measure=self.measure,
            costs=WordCosts(word=self.word_cost, unknown=self.unknown_cost, known=known),
            pools=Pools(index=index, whole=self.scope is Scope.catalogue),
            engine=Engine(index=index, caches=self.cache.open(), fail=Failures(folder=failures)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RankingReward:
    """A :class:`Reward`: texts are search texts by now (see ``TextRules.search_text``).

    A text that the index knows nothing of retrieves nothing, and its measure is exactly 0. Ties are
    broken by document id, descending. A pool smaller than the measure's cut-off is ranked whole.
    """

    measure: Measure
    costs: WordCosts
    pools: Pools
    engine: Engine
    _short: set[int] = field(default_factory=set, init=False, repr=False)

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The measure, for each text and the prompt beside it, in float32.

        Costs are not in it: they are those of texts as written (``rewards/costs.py``).

        Raises:
            ValueError: If the two lengths differ, or a prompt cannot be scored (:class:`Pools`).
            RuntimeError: If the retriever fails, or a score is not a number.
        """
        plan = Plan.of(prompts, texts)
        scopes = [self.pools(prompt).digest(self.measure) for prompt in plan.prompts]
        keys: list[Key] = [(scopes[prompt], plan.texts[text]) for prompt, text in plan.pairs]
        values, remembered = self.engine.caches.rewards.recalled(
            keys, lambda missing: self._computed(plan.only(missing))
        )
        self.engine.count(Counts(asked=len(texts), distinct=len(keys), remembered=remembered))
        return values[plan.pair_of]

    @cached_property
    def linear(self) -> "RankingReward":
        """The same for texts whose repetitions are weights; itself where they count so anyway."""
        index = self.engine.index
        if not isinstance(index, Saturating) or index.linear is index:
            return self
        return replace(
            self,
            pools=Pools(index=index.linear, whole=self.pools.whole),
            engine=replace(self.engine, index=index.linear),
        )

    @property
    def counts(self) -> Counts:
        """What this reward was asked for so far, and what was remembered."""
        return self.engine.counts

    def _computed(self, plan: Plan) -> Float[Tensor, " N"]:
        """Compute the rewards of distinct pairs that no cache has."""
        ranked, judged = self._ranked(plan, self.measure.cutoff)
        return self.measure(ranked, judged).float()

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
        plan = Plan.of(prompts, texts)
        ranked, judged = self._ranked(plan, depth)
        return ranked[plan.pair_of], judged[plan.pair_of]

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
        plan = Plan.of(prompts, texts)
        found: list[list[tuple[str, float]]] = [[] for _ in plan.pairs]
        for pool, pairs, columns, best in self._found(plan, depth):
            for pair, row, values in zip(pairs.tolist(), columns.tolist(), best, strict=True):
                kept = row[: int((values > -torch.inf).sum())]
                found[pair] = [
                    (pool.document_ids[column], value)
                    for column, value in zip(kept, values.tolist(), strict=False)
                ]
        return [found[pair] for pair in plan.pair_of.tolist()]

    def _ranked(
        self, plan: Plan, depth: int | None
    ) -> tuple[Int[Tensor, "N D"], Int[Tensor, "N J"]]:
        """Rank the documents of each distinct pair: grades in rank order, grades of all judged."""
        if not plan.pairs:
            nothing = torch.zeros(0, 0, dtype=torch.int16)
            return nothing, nothing
        pools = [self.pools(prompt) for prompt in plan.prompts]
        for pool in pools:
            self._say_if_short(pool)
        longest = max(len(pool.document_ids) for pool in pools)
        ranked = torch.zeros(
            len(plan.pairs), longest if depth is None else min(depth, longest), dtype=torch.int16
        )
        for pool, pairs, columns, best in self._found(plan, depth):
            grades = rank_grades(columns, best, pool.grades())
            ranked[pairs, : grades.shape[1]] = grades
        judged = torch.nn.utils.rnn.pad_sequence([p.judged for p in pools], batch_first=True)
        return ranked, judged[[prompt for prompt, _ in plan.pairs]]

    def _found(
        self, plan: Plan, depth: int | None
    ) -> Iterator[tuple[Pool, Int[Tensor, " n"], Int[Tensor, "n D"], Float[Tensor, "n D"]]]:
        """What each prompt's distinct texts find, best first.

        Yields a pool, the numbers of its pairs, columns of the pool's documents in rank order, and
        their scores, -inf for what is not retrieved.
        """
        encoded = self._encoded(plan)
        row_of = torch.tensor([text for _, text in plan.pairs])
        prompt_of = torch.tensor([prompt for prompt, _ in plan.pairs])
        for pairs in self._together(plan):
            rows = row_of[pairs]
            pool = self.pools(plan.prompts[int(prompt_of[pairs[0]])])
            try:
                columns, best = self._searched(encoded, rows, pool, depth)
            except Exception as error:
                texts = [plan.texts[row] for row in rows.tolist()]
                self.engine.fail(texts, f"raised {type(error).__name__}: {error}", error)
            for prompt in prompt_of[pairs].unique_consecutive().tolist():
                own, asker = prompt_of[pairs] == prompt, plan.prompts[prompt]
                odd = own & ~(best < torch.inf).all(dim=1)  # NaN is not less
                if odd.any():
                    texts = [plan.texts[row] for row in rows[odd].tolist()]
                    what = f"gave scores that are no numbers for {asker.prompt_id!r}"
                    self.engine.fail(texts, what)
                yield self.pools(asker), pairs[own], columns[own], best[own]

    def _together(self, plan: Plan) -> Iterator[Int[Tensor, " n"]]:
        """Numbers of the pairs whose documents are searched for at once, prompt by prompt.

        Prompts that search all of a catalogue of several blocks share the searches, since each
        reads it from end to end.
        """
        large = len(self.engine.index.document_ids) > DOCUMENTS_AT_ONCE
        shared: dict[int, list[int]] = {}
        for number, (prompt, _) in enumerate(plan.pairs):
            whole = large and self.pools(plan.prompts[prompt]).documents is None
            shared.setdefault(-1 if whole else prompt, []).append(number)
        for numbers in shared.values():
            numbers.sort(key=lambda number: plan.pairs[number][0])
            pool = self.pools(plan.prompts[plan.pairs[numbers[0]][0]])
            size = min(max(len(pool.document_ids), 1), DOCUMENTS_AT_ONCE)
            yield from torch.tensor(numbers).split(max(_SCORES_AT_ONCE // size, 1))

    def _encoded(self, plan: Plan) -> Encoded:
        """Encode the distinct texts by the engine."""
        return self.engine.encode(plan.texts)

    def _searched(
        self, encoded: Encoded, rows: Int[Tensor, " n"], pool: Pool, depth: int | None
    ) -> tuple[Int[Tensor, "n D"], Float[Tensor, "n D"]]:
        """Columns of a pool's documents in rank order, and their scores."""
        index = self.engine.index
        if pool.documents is None and isinstance(index, Searcher):
            return index.search(encoded, rows, depth=depth)
        scores = index.score(encoded, rows, pool.documents)
        odd = ~(scores < torch.inf)
        if odd.any():  # before they are put in order
            return odd.long(), scores
        columns = order(scores, depth=depth)
        return columns, scores.gather(1, columns)

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
