"""A weighted sum of rewards."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.errors import nearest
from rlcredit.estimators.base import SetUtility
from rlcredit.identity import Versioned
from rlcredit.rewards.base import Reward, counts_of, scores_parts
from rlcredit.types import Counts, Prompt


@dataclass(frozen=True, kw_only=True)
class WeightedSum:
    """``sum over terms of weight * reward``, of whole responses and of parts of them alike.

    What a term's own utility says is not read: the sum's is.

    Raises:
        ValueError: If there is no term, a term is no reward, or a weight is not finite or of no
            term.
    """

    utility: SetUtility
    """What a set of candidates earns, where a task asks for sets."""
    terms: dict[str, Any] = field(default_factory=dict)
    """Rewards by names of one's own."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weights by the terms' names; 1 where none is given."""

    def __post_init__(self) -> None:
        """Check terms and weights."""
        if not self.terms:
            raise ValueError(
                "reward=sum has no terms; name them on the command line, such as "
                "+reward@reward.terms.found=ndcg"
            )
        for name, term in self.terms.items():
            if not dataclasses.is_dataclass(term):
                raise ValueError(
                    f"reward.terms.{name}={term!r} is no reward; mount one with "
                    f"+reward@reward.terms.{name}=ndcg (or another name in conf/reward)"
                )
        for name, weight in self.weights.items():
            if name not in self.terms:
                raise ValueError(
                    f"reward.weights.{name}={weight:g} weighs no term; the terms are "
                    f"{', '.join(self.terms)}{nearest(name, self.terms)}"
                )
            if not math.isfinite(weight):
                raise ValueError(f"reward.weights.{name}={weight}, but a weight is a finite number")

    def content(self) -> tuple[str, ...]:
        """What the terms say of themselves, each behind its name."""
        versioned = {name: t for name, t in self.terms.items() if isinstance(t, Versioned)}
        return tuple(part for name, t in versioned.items() for part in (name, *t.content()))

    def bind(self, terms: Mapping[str, Reward]) -> "SumReward":
        """The sum of rewards that were bound, by the names of the terms."""
        return SumReward(
            terms=terms, weights={name: self.weights.get(name, 1.0) for name in self.terms}
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SumReward:
    """A :class:`Reward`: every term is asked for every text."""

    terms: Mapping[str, Reward]
    weights: Mapping[str, float]

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """The weighted sum for each text and the prompt beside it, in float32."""
        total = torch.zeros(len(texts), dtype=torch.float64)
        for name, term in self.terms.items():
            total += self.weights[name] * term(prompts, texts).double().cpu()
        return total.float()

    @property
    def counts(self) -> Counts:
        """Requests to all terms together."""
        return counts_of(self.terms.values())

    @property
    def said(self) -> str:
        """The sum in words, for a run's header."""
        return " + ".join(f"{weight:g} {name}" for name, weight in self.weights.items())


@scores_parts.register
def _(reward: WeightedSum) -> bool:
    """Where all terms do."""
    return all(map(scores_parts, reward.terms.values()))


@scores_parts.register
def _(reward: SumReward) -> bool:
    """Where all terms do."""
    return all(map(scores_parts, reward.terms.values()))
