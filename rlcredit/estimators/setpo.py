"""SetPO: a bonus for what a rollout adds to its group's diversity (arXiv:2602.01062)."""

from dataclasses import dataclass

from rlcredit.credit.diversity import SMALLEST_GROUP, cosine_kernel, marginal_diversity
from rlcredit.credit.spread import spread_rollout
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain
from rlcredit.types import Advantages, Needs, Signals


@dataclass(frozen=True, kw_only=True)
class SetPO(AdvantageEstimator):
    """The base's advantages plus coef * s, for every response, right or wrong; s is raw.

    A_i + lambda s_i      Algorithm 1: added after the base has normalised, and not normalised again
    """

    centring = Centring.none  # the bonuses of a group sum to a number that is never positive

    base: AdvantageEstimator
    """The estimator whose advantages get the bonus."""
    coef: float = 0.1
    """The paper's lambda."""

    def __post_init__(self) -> None:
        """Refuse to reward sameness."""
        if self.coef < 0:
            raise ValueError(f"coef is {self.coef}; the diversity bonus has a weight of 0 or more")

    @property
    def needs(self) -> Needs:
        """What the base needs, and an embedding of each response."""
        return self.base.needs | Needs(embeddings=True)

    @property
    def grain(self) -> Grain:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The base's grain: the bonus is one number per rollout."""
        return self.base.grain

    @property
    def smallest_group(self) -> int:
        """The base's, or what is compared with one rollout left out, whichever is larger."""
        return max(SMALLEST_GROUP, self.base.smallest_group)

    def __call__(self, signals: Signals) -> Advantages:
        """Add coef * (marginal diversity of the rollout) to the base's advantages."""
        if signals.embeddings is None:
            raise ValueError(
                "SetPO needs embeddings of the responses, and signals.embeddings is None; "
                "score with its needs"
            )
        base = self.base(signals)
        bonus = self.coef * marginal_diversity(cosine_kernel(signals.embeddings))
        added = spread_rollout(bonus.to(base.values), signals.response_mask)
        num_tokens = signals.response_mask.sum().clamp(min=1)
        base_rms = (base.values.square().sum() / num_tokens).sqrt()
        bonus_rms = (added.square().sum() / num_tokens).sqrt()
        figures = {"credit/diversity_rms": bonus_rms}
        if base_rms > 0:  # a step whose groups are all equal has no ratio
            figures["credit/diversity_to_base"] = bonus_rms / base_rms
        return Advantages(
            values=base.values + added, credit=base.credit, metrics=base.metrics | figures
        )
