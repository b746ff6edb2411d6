"""A reward of searches whose coalitions are not encoded, but pooled from their whole responses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.retrieval.base import Encoded
from rlcredit.retrieval.embedder import has_word
from rlcredit.retrieval.repool import Repooler
from rlcredit.rewards.engine import Counts, Plan
from rlcredit.rewards.ranking import RankingReward
from rlcredit.types import Metrics, Prompt


@dataclass(frozen=True, kw_only=True)
class PartCounts(Counts):
    """With what became of parts; ``texts`` counts the wholes that they were pooled from."""

    parts: int = 0
    """Distinct parts with a word, each within its whole."""
    unfound: int = 0
    """Of them, those that are not made of their whole's words, and were encoded exactly."""

    def metrics(self) -> Metrics:
        """See :class:`Counts`."""
        found = {"perf/parts": self.parts, "perf/unfound_parts": self.unfound}
        return super().metrics() | {
            name: torch.tensor(float(value), dtype=torch.float64) for name, value in found.items()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class RepooledReward(RankingReward):
    """A :class:`PartReward`: exact when called with whole texts, approximate on parts of them.

    A part that is not found in its whole, or holds nothing to search with, is encoded as any text.
    Approximate vectors and rewards are remembered nowhere: a cache's contents would change them.
    """

    repool: Repooler
    _parts: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)], init=False, repr=False)

    @classmethod
    def of(cls, exact: RankingReward) -> "RepooledReward":
        """The same reward with approximate parts.

        Raises:
            ValueError: If the index's encoder cannot be re-pooled (see :class:`Repooler`).
        """
        return cls(
            measure=exact.measure,
            pools=exact.pools,
            engine=exact.engine,
            repool=Repooler.of(exact.engine.index),
        )

    def of_parts(
        self, prompts: Sequence[Prompt], texts: Sequence[str], wholes: Sequence[str]
    ) -> Float[Tensor, " N"]:
        """See :class:`PartReward`.

        Raises:
            ValueError: If the lengths differ, or a prompt cannot be scored.
            RuntimeError: If the retriever fails, or a score is not a number.
        """
        plan = Plan.of(prompts, texts, wholes)
        self.engine.count(Counts(asked=len(texts), distinct=len(plan.pairs)))
        return self._computed(plan)[plan.pair_of]

    @property
    def counts(self) -> PartCounts:
        """What this reward was asked for so far."""
        parts, unfound = self._parts[0]
        return PartCounts(**vars(self.engine.counts), parts=parts, unfound=unfound)

    def _encoded(self, plan: Plan) -> Encoded:
        if plan.wholes is None:
            return super()._encoded(plan)
        try:
            pooled = self.repool(plan.texts, plan.wholes)
        except Exception as error:
            self.engine.fail(plan.wholes, f"raised {type(error).__name__}: {error}", error)
        self.engine.count(Counts(texts=pooled.num_passes))
        known, rows = pooled.found.clone(), pooled.rows
        left: list[int] = (~pooled.found).nonzero().squeeze(1).tolist()
        unfound = sum(has_word(plan.texts[i]) for i in left)
        parts, before = self._parts[0]
        self._parts[0] = (parts + int(pooled.found.sum()) + unfound, before + unfound)
        if left:
            texts = list(dict.fromkeys(plan.texts[i] for i in left))
            place = {text: row for row, text in enumerate(texts)}
            exact, own = self.engine.encode(texts), [place[plan.texts[i]] for i in left]
            known[left], rows[left] = exact.known[own], exact.rows[own].to(rows)
        return Encoded(known=known, rows=rows)
