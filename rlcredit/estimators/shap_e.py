"""ShapE: candidates listed in one response, credited by Shapley values (arXiv:2603.29871).

The paper's own equations could not be had; what is ours stands in docs/methods.
"""

from dataclasses import dataclass
from enum import StrEnum, auto

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.credit.group import checked_rewards, group_relative
from rlcredit.credit.masked import full_precision, masked_mean, masked_std
from rlcredit.credit.rounding import all_equal
from rlcredit.credit.spread import spread_rollout, spread_segment
from rlcredit.estimators.base import AdvantageEstimator, Centring, Grain, SetUtility, Share
from rlcredit.types import Advantages, CandidateRewards, Needs, Signals

LONGEST_RATIO = 4.0
"""A short candidate's credit is raised no more than this for its length."""


class Norm(StrEnum):
    """Mean and std that candidates are standardised with.

    ``pooled``: of the group's G * K candidate credits. ``group``: of its G set rewards, as in GRPO;
    then equal credit is GRPO exactly, but credits spread several std wide and training decays.
    """

    pooled = auto()
    group = auto()


@dataclass(frozen=True, kw_only=True)
class ShapE(AdvantageEstimator):
    """K times its share on a candidate's tokens, the set's reward elsewhere, standardised.

    A response without exactly K non-empty candidates has reward 0, enters as K zeros, and gets the
    group's plain advantage on every token: else the policy learns to list fewer.
    """

    grain = Grain.candidate
    centring = Centring.group  # over its candidates, whose number the exact-K rule keeps

    utility: SetUtility
    """What a set of candidates earns (reward/utility)."""
    share: Share
    """How much of it is whose (estimator/share)."""
    norm: Norm = Norm.pooled
    length_weighted: bool = False
    """Weigh credit by mean length / own length (at most 4), so that a response's total is kept."""
    eps: float = 1e-4
    """Added to the std, in reward units."""

    @property
    def needs(self) -> Needs:
        """The reward of each candidate alone."""
        return Needs(candidates=True)

    def __call__(self, signals: Signals) -> Advantages:
        """Give a candidate's tokens its standardised credit, other tokens the set's advantage."""
        candidates = _required(signals)
        complete, num_asked = candidates.complete, candidates.num_asked
        mask = candidates.mask & complete.unsqueeze(-1)
        rewards = checked_rewards(self.utility(candidates, mask), "ShapE")
        credit = num_asked * self.share(self.utility, candidates, mask)
        if self.length_weighted:
            credit = credit * _length_weights(candidates, mask)
        plain = spread_rollout(group_relative(rewards, eps=self.eps), signals.response_mask)
        own = spread_segment(
            self._standardised(credit, rewards, mask, num_asked), candidates.candidate_ids
        )
        listed = (candidates.candidate_ids >= 0) & complete.unsqueeze(-1) & signals.response_mask
        return Advantages(
            values=torch.where(listed, own, plain),
            credit=torch.where(listed, spread_segment(credit, candidates.candidate_ids), 0),
            metrics={
                "credit/complete_share": complete.to(credit.dtype).mean(),
                "credit/set_reward": rewards.mean(),
                "credit/candidate_std": masked_std(credit.flatten(), mask.flatten()),
            },
        )

    def _standardised(
        self,
        credit: Float[Tensor, "P G K"],
        rewards: Float[Tensor, "P G"],
        mask: Bool[Tensor, "P G K"],
        num_asked: int,
    ) -> Float[Tensor, "P G K"]:
        """Advantages of candidates; 0 in groups whose pooled credits (or set rewards) are equal."""
        if self.norm == Norm.group:
            pool = rewards
        else:
            # Rows of exactly K: what is no candidate of a complete response enters as 0.
            order = (~mask).to(torch.uint8).argsort(dim=-1, stable=True)
            pool = credit.gather(-1, order)[..., :num_asked].flatten(1)
        std = pool.std(dim=1) + self.eps
        equal = all_equal(pool, num_added=num_asked)
        centred = credit - pool.mean(dim=1)[:, None, None]
        scaled = centred / torch.where(equal, 1, std)[:, None, None]
        return torch.where(mask & ~equal[:, None, None], scaled, 0)


def _required(signals: Signals) -> CandidateRewards:
    """The candidates, or the reason why there are none."""
    if signals.candidates is None:
        raise ValueError(
            "ShapE needs the rewards of candidates, and signals.candidates is None; "
            "score with its needs"
        )
    rewards = signals.candidates.rewards[signals.candidates.mask]
    if not bool(torch.isfinite(rewards).all()):
        bad = rewards[~torch.isfinite(rewards)][0].item()
        raise ValueError(f"the reward of a candidate is {bad}; rewards must be finite")
    return signals.candidates


def _length_weights(
    candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
) -> Float[Tensor, "P G K"]:
    """Mean length of the response's candidates over each one's own, in tokens."""
    places = torch.arange(mask.shape[-1], device=mask.device)
    tokens = candidates.candidate_ids.unsqueeze(-1) == places
    lengths = tokens.sum(dim=-2).to(full_precision(candidates.rewards))
    mean = masked_mean(lengths, mask, keepdim=True)
    return (mean / lengths.clamp(min=1)).clamp(max=LONGEST_RATIO)
