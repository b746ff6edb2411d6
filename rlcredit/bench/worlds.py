"""The worlds of the bench: a tree, a policy over it, and a game, for questions easy and hard."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.bench.games import (
    Additive,
    Arms,
    BestOf,
    Complements,
    FreeRider,
    Game,
    Harmful,
    Positions,
    RedundantPairs,
    Retrieval,
)
from rlcredit.bench.policies import Recurrent, Tabular, TreePolicy, token_logprobs, token_scores
from rlcredit.bench.tree import Tree
from rlcredit.retrieval import Hashing
from rlcredit.types import Randomness

DOUBLE = torch.float64
EMBEDDING_SIZE = 50
"""Dimensions of the vector of a bandit's arm, as in SetPO's toy (arXiv:2602.01062, figure 1)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """One game on one tree, and a policy that is asked Q questions.

    Raises:
        ValueError: If the tilts are not one per question.
    """

    name: str
    structure: str
    """What is known of it, in a few words."""
    tree: Tree
    game: Game
    policy: TreePolicy
    tilts: tuple[float, ...]
    """Per question, what is added to the logits of the eased words of a tabular policy."""
    eased: int = 2
    """How many of the first words are made easy or hard by the tilt."""
    candidates: int = 0
    """How many candidates a response must list; 0: its words are segments of one text."""
    coin: bool = False
    """A reward is 1 with the probability that the game says, else 0, drawn at each evaluation."""
    spread: float = 0.7
    """Standard deviation of the parameters."""
    questions: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the questions."""
        if not self.tilts:
            raise ValueError(f"world {self.name!r} asks nothing; give it a tilt per question")
        object.__setattr__(self, "questions", len(self.tilts))

    @cached_property
    def values(self) -> Float[Tensor, "Q N"]:
        """Value of no words, then of each list of words: every coalition's value is one of them."""
        lists = ((), *self.tree.responses)
        rows = [[self.game(q, words) for words in lists] for q in range(self.questions)]
        return torch.tensor(rows, dtype=DOUBLE)

    @cached_property
    def rewards(self) -> Float[Tensor, "Q R"]:
        """Expected reward of each response; a set of another size than asked for earns 0."""
        return torch.where(self.complete, self.values[:, 1:], 0)

    @cached_property
    def complete(self) -> Bool[Tensor, " R"]:
        """False where a response lists another number of candidates than was asked for."""
        if not self.candidates:
            return torch.ones(len(self.tree.responses), dtype=torch.bool)
        return self.tree.present.sum(dim=-1) == self.candidates

    @cached_property
    def parameters(self) -> Float[Tensor, " D"]:
        """Where the policy stands: drawn once for the world's name, then tilted."""
        count = self.policy.num_parameters(self.tree, self.questions)
        generator = Randomness(seed=0, step=0).generator(f"bench policy {self.name}")
        drawn = self.spread * torch.randn(count, generator=generator, dtype=DOUBLE)
        if not isinstance(self.policy, Tabular):
            return drawn
        allowed = self.tree.allowed.expand(self.questions, -1, -1)
        tilt = torch.zeros(allowed.shape, dtype=DOUBLE)
        tilt[..., : self.eased] = torch.tensor(self.tilts, dtype=DOUBLE)[:, None, None]
        return drawn + tilt[allowed]

    @cached_property
    def embeddings(self) -> Float[Tensor, "R E"]:
        """Embedding of each response: a hashing encoder's; of an arm, a vector of its own."""
        if self.tree.longest > 1:
            return Hashing(dimensions=256)(self.tree.texts).to(DOUBLE)
        generator = Randomness(seed=0, step=0).generator(f"bench arms {self.name}")
        shape = (len(self.tree.responses), EMBEDDING_SIZE)
        return torch.randn(shape, generator=generator, dtype=DOUBLE)

    def logprobs(self, parameters: Float[Tensor, " D"]) -> Float[Tensor, "Q R T"]:
        """Log-probability of each token of each response; differentiable."""
        return token_logprobs(self.policy, parameters, self.tree, self.questions)

    def scores(self, parameters: Float[Tensor, " D"]) -> Float[Tensor, "Q R T D"]:
        """Gradient of each token's log-probability in the parameters."""
        return token_scores(self.policy, parameters, self.tree, self.questions)


_LETTERS = ("alpha", "bravo", "cocoa", "delta", "ember")
_HARD_TO_EASY = (-0.8, 0.2, 1.2)


def worlds() -> tuple[World, ...]:
    """Every world of the bench, small to large in what a reward depends on."""
    lists = Tree(words=_LETTERS[:4], longest=3)
    longer = Tree(words=_LETTERS[:4], longest=4)
    offers = Tree(words=_LETTERS, longest=3)
    arms = Tree(words=tuple(f"arm{number:02d}" for number in range(12)), longest=1)
    listed = Tabular(), _HARD_TO_EASY
    segments = (
        ("additive", "each word earns its own", lists, Additive(), *listed),
        ("redundant", "two pairs of synonyms", lists, RedundantPairs(), *listed),
        (
            "complements",
            "two pairs that need each other",
            longer,
            Complements(),
            Recurrent(),
            (0.0,),
        ),
        ("free_rider", "two words that never pay", lists, FreeRider(), *listed),
        ("harmful", "one word spoils the rest", lists, Harmful(), *listed),
        ("positions", "worth halves by the place", lists, Positions(), Recurrent(), (0.0,) * 3),
        ("retrieval", "BM25 over 30 documents", offers, Retrieval(), Recurrent(), (0.0,) * 3),
    )
    made = [
        World(name=name, structure=what, tree=tree, game=game, policy=policy, tilts=tilts)
        for name, what, tree, game, policy, tilts in segments
    ]
    noisy = World(
        name="noisy", structure="each reward is a coin", tree=lists, game=Additive(),
        policy=Tabular(), tilts=_HARD_TO_EASY, coin=True,
    )  # fmt: skip
    sets = World(
        name="candidates", structure="best of three candidates", tree=offers, game=BestOf(),
        policy=Tabular(), tilts=(-0.5, 0.5), candidates=3,
    )  # fmt: skip
    bandit = World(
        name="arms", structure="4 right arms of 12", tree=arms, game=Arms(), policy=Tabular(),
        tilts=(-2.0, 0.0, 1.5, 3.0), eased=4, spread=0.3,
    )  # fmt: skip
    return (*made, noisy, sets, bandit)
