"""The coalitions of a batch of responses: which are asked for, as text, and the games they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.text.render import coalition_text
from rlcredit.text.response import TextRules
from rlcredit.text.spans import Span
from rlcredit.types import CoalitionGame, CoalitionPlan, Randomness

NUM_KNOWN = 2
"""The empty coalition and everyone come first; their values are mostly known without a reward."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A response's scored text, cut into segments."""

    text: str
    """The whole response, which the spans refer to."""
    scored: Span
    spans: tuple[Span, ...]
    valid: tuple[bool, ...]
    first: tuple[bool, ...]
    sentences: tuple[int, ...]
    """Number of the sentence in which each segment begins."""


@dataclass(frozen=True, kw_only=True)
class Planner:
    """Draws each response's coalitions; a plan that leaves nothing to chance is made only once."""

    plan: CoalitionPlan
    randomness: Randomness
    _complete: dict[int, Bool[Tensor, "C N"]] = field(default_factory=dict)

    def __call__(self, num_players: int, row: int) -> tuple[Bool[Tensor, "C N"], bool]:
        """Coalitions of the response in a global row, and whether they are a sample of the plan."""
        if num_players in self._complete:
            return self._complete[num_players], False
        sampled = self.plan.is_sampled(num_players)
        members = self.plan(num_players, self.randomness.generator("coalitions", row))
        if not sampled:
            self._complete[num_players] = members
        return members, sampled


@dataclass(frozen=True, kw_only=True)
class CoalitionRequest:
    """The coalitions of one response, of which those behind the known ones get a reward."""

    players: Bool[Tensor, " M"]
    unions: Int[Tensor, " M"]
    """The sentence of each segment."""
    members: Bool[Tensor, "C M"]
    """Coalitions of its segments; row 0 is empty, row 1 is every player."""
    sampled: bool
    """Whether the coalitions are a sample of the plan's."""
    num_known: int
    """Rows whose values are known: 2, or 1 where everyone's text is not the response's."""


def request(
    part: Part,
    planner: Planner,
    rules: TextRules,
    *,
    row: int,
    first_copies: bool,
    live: bool,
    charges: bool = False,
) -> CoalitionRequest:
    """Choose the coalitions of one response that get a reward.

    Args:
        part: The response, cut into segments.
        planner: Chooses among the players: valid segments, repeats of earlier ones at will.
        rules: Of the task, by which segments that do not play can count all the same.
        row: The response's global index, which its random choices follow.
        first_copies: Repeats are no players.
        live: False: the group's credit is 0 anyhow, so only the two coalitions whose values are
            known are listed.
        charges: Words cost, so that segments which do not play change what everyone earns.
    """
    pairs = zip(part.valid, part.first, strict=True)
    playing = [valid and (first or not first_copies) for valid, first in pairs]
    places = [place for place, plays in enumerate(playing) if plays]
    if live and places:
        chosen, sampled = planner(len(places), row)
    else:
        chosen, sampled = torch.zeros(min(NUM_KNOWN, 1 + len(places)), len(places)).bool(), False
        chosen[1:] = True
    members = chosen
    if len(places) < len(playing):
        members = torch.zeros(len(chosen), len(playing), dtype=torch.bool)
        members[:, places] = chosen
    players = torch.tensor(playing, dtype=torch.bool)
    unions = torch.tensor(part.sentences, dtype=torch.long)
    return CoalitionRequest(
        players=players,
        unions=unions,
        members=members,
        sampled=sampled,
        num_known=NUM_KNOWN if not live or _is_whole(part, playing, rules, charges) else 1,
    )


def _is_whole(part: Part, playing: Sequence[bool], rules: TextRules, charges: bool) -> bool:
    """Whether the players earn what all segments do: the rules make one text of both."""
    if all(playing) or charges:
        return all(playing)
    texts = (coalition_text(part.text, part.spans, who) for who in (playing, [True] * len(playing)))
    players, everything = (rules.search_text(text, query="") for text in texts)
    return players == everything


def game(
    requests: Sequence[Sequence[CoalitionRequest]],
    rewards: Float[Tensor, "P G"],
    values: Float[Tensor, " N"],
    *,
    num_segments: int,
    nothing: Float[Tensor, " P"],
) -> CoalitionGame:
    """Put the values of all coalitions of a batch into the games of its responses.

    Args:
        requests: P x G of them.
        rewards: Rewards of the whole responses.
        values: Rewards of all coalitions but the known ones of each response, in their order.
        num_segments: Columns of the masks.
        nothing: What a response of no segment earns to each prompt; taken off every value.
    """
    rows = [one for group in requests for one in group]
    num_coalitions = max(NUM_KNOWN, *(len(one.members) for one in rows))
    players = torch.zeros(len(rows), num_segments, dtype=torch.bool)
    unions = torch.zeros(len(rows), num_segments, dtype=torch.long)
    members = torch.zeros(len(rows), num_coalitions, num_segments, dtype=torch.bool)
    evaluated = torch.zeros(len(rows), num_coalitions, dtype=torch.bool)
    for index, one in enumerate(rows):
        players[index, : len(one.players)] = one.players
        unions[index, : len(one.unions)] = one.unions
        members[index, : len(one.members), : len(one.players)] = one.members
        evaluated[index, : len(one.members)] = True
    table = rewards.new_zeros(evaluated.shape)
    table[:, 1] = rewards.flatten() * evaluated[:, 1].to(rewards.device)
    beyond = evaluated.clone()
    for index, one in enumerate(rows):
        beyond[index, : one.num_known] = False
    table[beyond.to(table.device)] = values.to(table)
    shape = rewards.shape
    alone = nothing.repeat_interleave(shape[1])[:, None]
    table[:, 1:] -= alone * evaluated[:, 1:].to(table.device)
    return CoalitionGame(
        players=players.unflatten(0, shape).to(table.device),
        unions=unions.unflatten(0, shape).to(table.device),
        members=members.unflatten(0, shape).to(table.device),
        rewards=table.unflatten(0, shape),
        evaluated=evaluated.unflatten(0, shape).to(table.device),
        sampled=torch.tensor([one.sampled for one in rows]).unflatten(0, shape).to(table.device),
    )
