"""What an advantage estimator is, and what the parts are that some estimators are made of."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from enum import StrEnum, auto
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.credit.games import player_order
from rlcredit.credit.group import Scale
from rlcredit.credit.masked import full_precision
from rlcredit.types import (
    Advantages,
    CandidateRewards,
    CoalitionGame,
    CoalitionPlan,
    Needs,
    Randomness,
    Segments,
    Signals,
    checked,
)


class Grain(StrEnum):
    """The finest part of a batch that gets credit of its own."""

    rollout = auto()
    segment = auto()
    candidate = auto()
    token = auto()


class Centring(StrEnum):
    """Over what an estimator's credit is centred, so that the policy cannot win by re-segmenting.

    ``response``: weights have mean 1, or additions sum to 0, over each response's tokens.
    ``group``: advantages are centred over the rollouts of a prompt. ``none``: a guard is named in
    docs/methods.
    """

    response = auto()
    group = auto()
    none = auto()


class AdvantageEstimator(ABC):
    """Signals in, credit per token out. Pure: no gradient, no I/O, no state.

    A subclass is a frozen dataclass that states its ``grain`` and ``centring``.
    """

    grain: ClassVar[Grain]
    centring: ClassVar[Centring]

    @property
    def needs(self) -> Needs:
        """What ``signals`` must carry besides the rewards of whole responses: nothing."""
        return Needs()

    @property
    def smallest_group(self) -> int:
        """Rollouts of a prompt that are compared, at least."""
        return 2

    @abstractmethod
    def __call__(self, signals: Signals) -> Advantages:
        """Give every token its advantage; called once per batch, before its first update."""


def refuse_mean_scale(scale: Scale, name: str) -> None:
    """Refuse a division by the mean reward, which has a meaning for whole responses alone.

    Raises:
        ValueError: If the scale is the mean.
    """
    if scale == Scale.mean:
        raise ValueError(f"{name} is scaled by std or none, not by the mean reward")


def played(signals: Signals, name: str) -> tuple[Segments, CoalitionGame]:
    """The segments of responses and the games of their coalitions.

    Args:
        signals: Of the batch.
        name: Whose credit they are for, to begin the complaint with.

    Raises:
        ValueError: If one of them is not there, or the reward of a coalition is not finite.
    """
    if signals.segments is None:
        raise ValueError(
            f"{name} is per segment, and signals.segments is None; give the scorer a segmenter"
        )
    if signals.game is None:
        raise ValueError(
            f"{name} needs the rewards of coalitions, and signals.game is None; "
            "score with its needs"
        )
    rewards = signals.game.rewards[signals.game.evaluated]
    if not bool(torch.isfinite(rewards).all()):
        bad = rewards[~torch.isfinite(rewards)][0].item()
        raise ValueError(f"the reward of a coalition is {bad}; rewards must be finite")
    return signals.segments, signals.game


def compacted(game: CoalitionGame) -> tuple[CoalitionGame, Int[Tensor, "P G M"]]:
    """The game with its players in the first columns, and the segment in each of its columns.

    Rewards are in at least float32.
    """
    order = player_order(game.players)
    compact = replace(
        game,
        players=game.players.gather(-1, order),
        members=game.members.gather(-1, order.unsqueeze(-2).expand_as(game.members)),
        rewards=full_precision(game.rewards),
        unions=None if game.unions is None else game.unions.gather(-1, order),
    )
    return compact, order


class SegmentValue(ABC):
    """Credit of the players of a coalition game: how much of the reward is whose."""

    @property
    @abstractmethod
    def plan(self) -> CoalitionPlan:
        """The coalitions whose rewards the value is made of."""

    @abstractmethod
    def __call__(
        self, game: CoalitionGame, *, randomness: Randomness | None
    ) -> Float[Tensor, "P G M"]:
        """Credit each player in reward units; 0 for padding.

        Args:
            game: Compact: the players of each response are its first columns, in text order.
            randomness: For control arms that draw their credit.
        """


@checked
@dataclass(frozen=True, kw_only=True)
class TokenCredit:
    """What a construction makes advantages from."""

    credit: Float[Tensor, "P G T"]
    """Credit of each token's segment, in reward units, equal where only rounding tells it apart; 0
    outside segments."""
    advantages: Float[Tensor, "P G"]
    """Group-relative advantage of each rollout."""
    rewards: Float[Tensor, "P G"]
    """Reward of each rollout."""
    scored: Bool[Tensor, "P G T"]
    """True on the tokens of segments."""
    response_mask: Bool[Tensor, "P G T"]
    """True on the tokens of responses."""


class Construction(ABC):
    """Advantages of tokens, from their credit and their rollout's advantage."""

    centring: ClassVar[Centring]

    @abstractmethod
    def __call__(self, given: TokenCredit) -> Float[Tensor, "P G T"]:
        """Give every token of a response its advantage; other tokens are not read."""


class SetUtility(ABC):
    """What a set of candidates earns; v(empty) = 0."""

    reads_covers: ClassVar[bool] = False
    """Whether ``candidates.covers`` must be there."""

    @abstractmethod
    def __call__(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G"]:
        """Give the utility, in reward units, of the set that ``mask`` picks in each response."""

    @abstractmethod
    def shapley(
        self, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Give each candidate of that set its Shapley value; 0 to the others."""


class Share(ABC):
    """How the utility of a set is divided among its candidates."""

    @abstractmethod
    def __call__(
        self, utility: SetUtility, candidates: CandidateRewards, mask: Bool[Tensor, "P G K"]
    ) -> Float[Tensor, "P G K"]:
        """Credit each candidate that ``mask`` picks, in reward units; 0 for the others."""
