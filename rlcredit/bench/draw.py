"""Groups of sampled responses with their signals, looked up in a world's tables.

The same records that the scorer makes, made by indexing: so a call holds thousands of groups.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.bench.policies import action_logprobs
from rlcredit.bench.worlds import World
from rlcredit.credit.group import equal_rewards
from rlcredit.credit.prefix import judged_segment
from rlcredit.credit.state_values import judged_starts
from rlcredit.types import (
    CandidateRewards,
    CoalitionGame,
    CoalitionPlan,
    Needs,
    Randomness,
    Segments,
    Signals,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Draw:
    """N groups of G responses for each question, as prompts in the order [question, group]."""

    world: World
    randomness: Randomness
    picks: Int[Tensor, "P G"]
    """Number of each response in the tree."""
    asked: Int[Tensor, " P"]
    """Question of each prompt."""
    actions: Float[Tensor, "P S A"]
    """Log-probabilities of every action in every state, of the policy that was sampled."""
    _games: dict[object, CoalitionGame] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        world: World,
        parameters: Float[Tensor, " D"],
        *,
        replicates: int,
        group_size: int,
        randomness: Randomness,
    ) -> "Draw":
        """Sample the policy; the same draws for every method of a world."""
        with torch.no_grad():
            chance = world.logprobs(parameters).sum(dim=-1).exp()
            actions = action_logprobs(world.policy, parameters, world.tree, world.questions)
        asked = torch.arange(world.questions).repeat_interleave(replicates)
        generator = randomness.generator(f"bench responses {world.name}")
        count = replicates * group_size
        picks = torch.multinomial(chance, count, replacement=True, generator=generator)
        return cls(
            world=world,
            randomness=randomness,
            picks=picks.reshape(-1, group_size),
            asked=asked,
            actions=actions[asked],
        )

    @cached_property
    def response_mask(self) -> Bool[Tensor, "P G T"]:
        """True on tokens."""
        return self.world.tree.mask[self.picks]

    def of_responses(self, table: Float[Tensor, "Q R *rest"]) -> Float[Tensor, "P G *rest"]:
        """A table's rows of the responses that were drawn."""
        return table[self.asked.unsqueeze(-1), self.picks]

    @cached_property
    def logprobs(self) -> Float[Tensor, "P G T"]:
        """Log-probabilities of the tokens."""
        tree = self.world.tree
        cells = (tree.states * self.actions.shape[-1] + tree.tokens)[self.picks]
        found = self.actions.flatten(1).gather(1, cells.flatten(1)).view(cells.shape)
        return torch.where(self.response_mask, found, 0)

    @cached_property
    def sum_pi_squared(self) -> Float[Tensor, "P G T"]:
        """The sum of squares of the distribution that each token was drawn from."""
        states = self.world.tree.states[self.picks]
        squares = (2 * self.actions).exp().sum(dim=-1)
        found = squares.gather(1, states.flatten(1)).view(states.shape)
        return torch.where(self.response_mask, found, 0)

    @cached_property
    def rewards(self) -> Float[Tensor, "P G"]:
        """Rewards as they were observed: with coins where the world tosses them."""
        return self._observed(self.of_responses(self.world.rewards), "rewards")

    def signals(self, needs: Needs) -> tuple[Signals, float]:
        """What an estimator asks for, and the mean number of rewards that a group's cost.

        Raises:
            ValueError: If candidates are needed and this world has none.
        """
        game = self._game(needs) if needs.coalitions is not None else None
        candidates = self._candidates() if needs.candidates or self.world.candidates else None
        asked = self.picks.numel()
        if candidates is not None:
            asked = int(candidates.mask.sum())
        if game is not None:
            asked += int(game.evaluated[..., 2:].sum())
            # everyone's value has its own reward where the response was paid for copies too
            asked += int((game.evaluated[..., 1] & (game.rewards[..., 1] != self.rewards)).sum())
        values, num_continued, extra_tokens = None, 0, 0
        if needs.continuations:
            values, num_continued, extra_tokens = self._continued(needs.continuations)
            asked += num_continued
        signals = Signals(
            rewards=self.rewards,
            response_mask=self.response_mask,
            segments=self._segments,
            game=game,
            candidates=candidates if needs.candidates else None,
            embeddings=self.world.embeddings[self.picks] if needs.embeddings else None,
            logprobs=self.logprobs if needs.sum_pi_squared else None,
            sum_pi_squared=self.sum_pi_squared if needs.sum_pi_squared else None,
            state_values=values,
            randomness=self.randomness,
            num_evaluations=asked,
            num_extra_tokens=extra_tokens,
        )
        return signals, asked / len(self.picks)

    def _continued(self, count: int) -> tuple[Float[Tensor, "P G S"], int, int]:
        """Mean rewards of continuations of each state that begins a word but the first.

        Returns:
            The means, how many continuations were drawn, and their tokens.
        """
        tree = self.world.tree
        place = judged_segment(tree.segments, tree.mask)
        starts = judged_starts(place, tree.mask, tree.longest + 1)[self.picks]
        values = torch.zeros(starts.shape, dtype=self.actions.dtype)
        begins = starts < tree.mask.shape[1]
        begins[..., 0] = False
        cells = begins.nonzero()
        if not len(cells):
            return values, 0, 0
        cuts = starts[begins]
        states = tree.states[self.picks[cells[:, 0], cells[:, 1]], cuts]
        generator = self.randomness.generator("bench continuations")
        drawn = torch.zeros(len(cells), count, dtype=torch.long)
        keys = self.asked[cells[:, 0]] * len(tree.prefixes) + states
        for key in keys.unique().tolist():
            question, state = divmod(key, len(tree.prefixes))
            rows = (keys == key).nonzero().squeeze(1)
            chance = self._chance(question) * (tree.mask & (tree.states == state)).any(dim=-1)
            found = torch.multinomial(
                chance, len(rows) * count, replacement=True, generator=generator
            )
            drawn[rows] = found.view(len(rows), count)
        table = self.world.rewards[self.asked[cells[:, 0], None], drawn]
        values[begins] = self._observed(table, "continuations").mean(dim=-1)
        tokens = (tree.mask.sum(dim=-1)[drawn] - cuts[:, None]).sum()
        return values, drawn.numel(), int(tokens)

    def _chance(self, question: int) -> Float[Tensor, " R"]:
        """The chance of each response to a question, for the policy that its prompts share."""
        tree = self.world.tree
        table = self.actions[int((self.asked == question).to(torch.uint8).argmax())]
        logprobs = torch.where(tree.mask, table[tree.states, tree.tokens], 0)
        return logprobs.sum(dim=-1).exp()

    @cached_property
    def _segments(self) -> Segments:
        tree = self.world.tree
        present = tree.present[self.picks]
        return Segments(
            spans=torch.zeros(*present.shape, 2, dtype=torch.long),
            mask=present,
            valid=present,
            first=tree.first[self.picks],
            ids=tree.segments[self.picks],
        )

    def _game(self, needs: Needs) -> CoalitionGame:
        """Coalition rewards; each game is played once, however many methods ask for it."""
        assert needs.coalitions is not None
        key = (needs.coalitions, needs.first_copies, needs.skips_equal_groups)
        if key not in self._games:
            self._games[key] = self._played(needs, needs.coalitions)
        return self._games[key]

    def _played(self, needs: Needs, plan: CoalitionPlan) -> CoalitionGame:
        tree = self.world.tree
        players = tree.first if needs.first_copies else tree.present
        rows = [self._members(plan, row, r) for r, row in enumerate(players)]
        most = max(2, *(len(row) for row in rows))
        members = torch.zeros(len(rows), most, tree.longest, dtype=torch.bool)
        evaluated = torch.zeros(len(rows), most, dtype=torch.bool)
        for r, row in enumerate(rows):
            members[r, : len(row)] = row
            evaluated[r, : len(row)] = True
        bits = 2 ** torch.arange(tree.longest)
        lists = tree.kept.gather(-1, (members * bits).sum(dim=-1))
        values = self.world.values[self.asked[:, None, None], lists[self.picks]]
        with_copies = (players != tree.present)[self.picks].any(dim=-1)
        with_copies &= values[..., 1] != self.of_responses(self.world.values[:, 1:])
        live = evaluated[self.picks]
        if needs.skips_equal_groups:
            unequal = ~equal_rewards(self.rewards)[:, None]
            live[..., 2:] &= unequal[..., None]
            with_copies &= unequal
        values = self._observed(values, f"coalitions {most}")
        values[..., 0] = 0
        values[..., 1] = torch.where(with_copies, values[..., 1], self.rewards)
        return CoalitionGame(
            players=players[self.picks],
            members=members[self.picks],
            rewards=torch.where(live, values, 0),
            evaluated=live,
            sampled=torch.tensor([plan.is_sampled(int(row.sum())) for row in players])[self.picks],
            unions=(torch.arange(tree.longest) // 2).expand(*self.picks.shape, -1),
        )

    def _members(self, plan: CoalitionPlan, players: Bool[Tensor, " M"], r: int) -> Tensor:
        """One response's coalitions; where the plan samples, each response has one sample."""
        places = players.nonzero().squeeze(1)
        compact = plan(len(places), self.randomness.generator("bench coalitions", r))
        members = torch.zeros(len(compact), len(players), dtype=torch.bool)
        members[:, places] = compact
        return members

    def _candidates(self) -> CandidateRewards:
        world = self.world
        if not world.candidates:
            raise ValueError(f"world {world.name!r} has no candidates; its responses are one text")
        alone = world.values[:, world.tree.kept[:, 2 ** torch.arange(world.tree.longest)]]
        present = world.tree.present[self.picks]
        return CandidateRewards(
            rewards=torch.where(present, self.of_responses(alone), 0),
            mask=present,
            candidate_ids=world.tree.segments[self.picks],
            num_asked=world.candidates,
            first=world.tree.first[self.picks],
        )

    def _observed(self, values: Tensor, purpose: str) -> Tensor:
        """The values, or coins that show them on average, a new one for each evaluation."""
        if not self.world.coin:
            return values.clone()
        generator = self.randomness.generator(f"bench coins {purpose}")
        return torch.bernoulli(values, generator=generator)
