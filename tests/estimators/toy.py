"""A policy small enough to enumerate: lists of words, of any length, ended by a decision.

Actions: the letter ``a``, a comma, the end of the sequence; at most five tokens, after which the
response is cut off. A run of letters is a segment, so responses have 0 to 3 of them, and whether a
segment goes on, ends, or the text ends are decisions of the policy.
"""

from dataclasses import replace
from itertools import product

import torch

from rlcredit.types import CoalitionGame, Randomness, Segments, Signals
from tests.strategies import DOUBLE, make_game

LETTER, COMMA, END = range(3)
LONGEST = 5
SEGMENTS = 3


def responses():
    """All token sequences that the policy can write."""
    for length in range(LONGEST + 1):
        for tokens in product((LETTER, COMMA), repeat=length):
            yield tokens + (() if length == LONGEST else (END,))


class Toy:
    """A tabular policy over all responses, with a reward for each text and each part of one."""

    def __init__(self, seed):
        generator = torch.Generator().manual_seed(seed)
        self.all = list(responses())
        states = sorted({r[:t] for r in self.all for t in range(len(r))})
        self.states = {state: s for s, state in enumerate(states)}
        self.logits = torch.randn(len(states), 3, generator=generator, dtype=DOUBLE) / 2
        self.worth = {}
        self._draw = lambda: torch.rand((), generator=generator, dtype=DOUBLE).item()
        self.chance = torch.tensor([self.probability(r) for r in self.all], dtype=DOUBLE)
        self.rewards = torch.tensor([self.value(self.words(r)) for r in self.all], dtype=DOUBLE)

    def probability(self, response):
        p = self.logits.softmax(-1)
        chances = [p[self.states[response[:t]], a].item() for t, a in enumerate(response)]
        return torch.tensor(chances, dtype=DOUBLE).prod().item()

    def words(self, response):
        text = "".join("a,"[t] for t in response if t != END)
        return tuple(word for word in text.split(",") if word)

    def value(self, words):
        """Reward of a list of words: any number, drawn once for each list; 0 for none."""
        if not words:
            return 0.0
        if words not in self.worth:
            self.worth[words] = self._draw()
        return self.worth[words]

    def scores(self):
        """d log pi(action) / d logits of every token of every response, as one row each."""
        p = self.logits.softmax(-1)
        rows = torch.zeros(len(self.all), LONGEST + 1, len(self.states), 3, dtype=DOUBLE)
        for r, response in enumerate(self.all):
            for t, action in enumerate(response):
                state = self.states[response[:t]]
                rows[r, t, state] = -p[state]
                rows[r, t, state, action] += 1
        return rows.flatten(2)

    def gradient(self):
        """The true gradient of the expected reward in the logits."""
        weight = self.chance * self.rewards
        return torch.einsum("r,rts->s", weight, self.scores())

    def distributions(self):
        """Log-prob of each token of each response, and its distribution's sum of squares."""
        p = self.logits.softmax(-1)
        logprobs = torch.zeros(len(self.all), LONGEST + 1, dtype=DOUBLE)
        squares = torch.zeros_like(logprobs)
        for r, response in enumerate(self.all):
            for t, action in enumerate(response):
                at = p[self.states[response[:t]]]
                logprobs[r, t], squares[r, t] = at[action].log(), at.square().sum()
        return logprobs, squares

    def state_values(self):
        """The expected reward of the text before each segment of each response, and the last one.

        By the places that tokens are judged by: what may follow is summed over.
        """
        found = torch.zeros(len(self.all), SEGMENTS + 1, dtype=DOUBLE)
        for r, response in enumerate(self.all):
            place, seen = 0, -1
            for t in range(len(response)):
                written = [x for x in response[:t] if x == LETTER]
                if t and response[t - 1] == COMMA and written:
                    words = self.words(response[:t])
                    place = len(words)
                if place > seen:
                    seen = place
                    chances = [
                        self.chance[o] if other[:t] == response[:t] else 0.0
                        for o, other in enumerate(self.all)
                    ]
                    chances = torch.tensor(chances, dtype=DOUBLE)
                    found[r, place] = (chances * self.rewards).sum() / chances.sum()
        return found

    def signals(self, plan, *, first_copies=False):
        """Every ordered pair of responses as a group of two."""
        ids = torch.full((len(self.all), LONGEST + 1), -1)
        mask = torch.zeros(len(self.all), LONGEST + 1, dtype=torch.bool)
        there = torch.zeros(len(self.all), SEGMENTS, dtype=torch.bool)
        first = torch.zeros_like(there)
        for r, response in enumerate(self.all):
            words, segment = self.words(response), -1
            for t, token in enumerate(response):
                mask[r, t] = True
                if token == LETTER:
                    segment += t == 0 or response[t - 1] != LETTER
                    ids[r, t] = segment
            there[r, : len(words)] = True
            first[r, : len(words)] = torch.tensor(
                [words.index(w) == i for i, w in enumerate(words)]
            )
        players = (first if first_copies else there).unsqueeze(0)
        listed = [self.words(r) for r in self.all]
        game = make_game(
            plan, players, lambda p, g, chosen: self.value(tuple(listed[g][i] for i in chosen))
        )
        everyone = torch.zeros(1, len(self.all), game.rewards.shape[-1], dtype=torch.bool)
        everyone[..., 1] = players.any(-1)
        game = replace(
            game, rewards=torch.where(everyone, self.rewards[None, :, None], game.rewards)
        )
        left, right = torch.cartesian_prod(*[torch.arange(len(self.all))] * 2).unbind(-1)
        pairs = torch.stack([left, right], dim=-1)
        logprobs, squares = self.distributions()
        segments = Segments(
            spans=torch.zeros(*pairs.shape, SEGMENTS, 2, dtype=torch.long),
            mask=there[pairs],
            valid=there[pairs],
            first=first[pairs],
            ids=ids[pairs],
        )
        return Signals(
            rewards=self.rewards[pairs],
            response_mask=mask[pairs],
            segments=segments,
            game=CoalitionGame(
                players=game.players[0, pairs],
                members=game.members[0, pairs],
                rewards=game.rewards[0, pairs],
                evaluated=game.evaluated[0, pairs],
                sampled=game.sampled[0, pairs],
            ),
            logprobs=logprobs[pairs],
            sum_pi_squared=squares[pairs],
            state_values=self.state_values()[pairs],
            randomness=Randomness(seed=0, step=0),
        ), pairs

    def expected(self, values, pairs):
        """Expectation of sum_t A_t grad log pi(y_t), averaged over the group, under the policy."""
        chance = self.chance[pairs].prod(dim=-1, keepdim=True) / pairs.shape[-1]
        total = torch.zeros(len(self.all), LONGEST + 1, dtype=DOUBLE)
        weighted = (values * chance.unsqueeze(-1)).flatten(0, 1)
        total.index_add_(0, pairs.flatten(), weighted)
        return torch.einsum("rt,rts->s", total, self.scores())
