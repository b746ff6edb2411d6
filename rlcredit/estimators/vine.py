"""Monte Carlo values of the text so far: SPO's chain (arXiv:2505.23564), VinePPO (2410.01679)."""

from dataclasses import dataclass

import torch

from rlcredit.credit.group import Scale, over_std
from rlcredit.credit.prefix import judged_segment
from rlcredit.credit.spread import spread_segment
from rlcredit.credit.state_values import Target, judged_starts, state_advantages
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain, refuse_mean_scale
from rlcredit.types import Advantages, Needs, Signals


@dataclass(frozen=True, kw_only=True)
class Vine(AdvantageEstimator):
    """What each segment changed in the expected reward, by fresh continuations of the text so far.

    Raises:
        ValueError: If nothing would be sampled, or the scale has no meaning here.
    """

    grain = Grain.segment
    centring = Centring.none  # the value of the state is the baseline

    samples: int = 4
    """Continuations of the text before each segment but the first."""
    target: Target = Target.step
    """What a segment led to: the value of the next state, or the response's own reward."""
    scale: Scale = Scale.none
    """Not at all (the unbiased one), or by the group's std of rewards."""
    eps: float = 1e-4
    """Added to the std, in reward units."""

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning here."""
        if self.samples < 1:
            raise ValueError(f"estimator.samples={self.samples}; a value needs 1 or more: use 4")
        refuse_mean_scale(self.scale, "vine")

    @property
    def needs(self) -> Needs:
        """Continuations in every group: one of equal rewards may have had other ends."""
        return Needs(continuations=self.samples)

    def __call__(self, signals: Signals) -> Advantages:
        """Give each token the advantage of the segment that it was chosen in."""
        if signals.segments is None:
            raise ValueError(
                "vine is per segment, and signals.segments is None; give the scorer a segmenter"
            )
        if signals.state_values is None:
            raise ValueError(
                "vine reads values of the text so far, and signals.state_values is None; "
                "continuations are sampled in a run, where the policy is at hand"
            )
        mask = signals.response_mask
        place = judged_segment(signals.segments.ids, mask)
        num_places = signals.state_values.shape[-1]
        present = judged_starts(place, mask, num_places) < mask.shape[-1]
        credit = state_advantages(
            signals.rewards, signals.state_values, present, target=self.target
        )
        scaled = credit
        if self.scale == Scale.std:
            scaled = over_std(credit, signals.rewards, eps=self.eps)
        return Advantages(
            values=torch.where(mask, spread_segment(scaled, place), 0),
            credit=torch.where(mask, spread_segment(credit, place), 0),
            metrics={"credit/mean_abs": credit.abs().sum() / present.sum().clamp(min=1)},
        )
