"""All texts that a small policy can write, as one table: the tree that everything is summed over.

A text is a list of words. Actions are the words, a separator and the end; after each word but the
last that fits, the policy chooses between going on and ending, so length is a decision too. Where
one word is all that fits the world is a bandit: one token, no separator, no end.
"""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import product

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Tree:
    """Every list of 1 to ``longest`` words, its tokens, and the state each was chosen in.

    Axes: R responses, T tokens, M = longest words, S states (texts begun), A actions.

    Raises:
        ValueError: If there are fewer than two words, or no room for one.
    """

    words: tuple[str, ...]
    longest: int
    responses: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """R lists of word numbers."""
    tokens: Int[Tensor, "R T"] = field(init=False, repr=False)
    mask: Bool[Tensor, "R T"] = field(init=False, repr=False)
    states: Int[Tensor, "R T"] = field(init=False, repr=False)
    """The state that each token was chosen in; 0 on padding."""
    prefixes: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    """S lists of tokens, each after the one that it continues."""

    def __post_init__(self) -> None:
        """Write everything down."""
        if len(self.words) < 2 or self.longest < 1:
            raise ValueError(
                f"{len(self.words)} words in lists of up to {self.longest} leave nothing to "
                "choose; use two words or more, and a length of 1 or more"
            )
        counts = range(1, self.longest + 1)
        responses = tuple(r for n in counts for r in product(range(len(self.words)), repeat=n))
        written = [self._tokens(response) for response in responses]
        prefixes = sorted(
            {tokens[:t] for tokens in written for t in range(len(tokens))},
            key=lambda prefix: (len(prefix), prefix),
        )
        number = {prefix: s for s, prefix in enumerate(prefixes)}
        length = max(map(len, written))
        tokens = torch.zeros(len(written), length, dtype=torch.long)
        mask = torch.zeros(len(written), length, dtype=torch.bool)
        states = torch.zeros(len(written), length, dtype=torch.long)
        for r, row in enumerate(written):
            tokens[r, : len(row)] = torch.tensor(row)
            mask[r, : len(row)] = True
            states[r, : len(row)] = torch.tensor([number[row[:t]] for t in range(len(row))])
        made = {
            "responses": responses,
            "tokens": tokens,
            "mask": mask,
            "states": states,
            "prefixes": tuple(prefixes),
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    @property
    def separator(self) -> int:
        """The action that goes on to another word."""
        return len(self.words)

    @property
    def end(self) -> int:
        """The action that ends the text."""
        return len(self.words) + 1

    def _tokens(self, response: tuple[int, ...]) -> tuple[int, ...]:
        row = [action for word in response for action in (word, self.separator)]
        if len(response) == self.longest:
            return tuple(row[:-1])  # cut off, as by a cap on tokens
        return (*row[:-1], self.end)

    @cached_property
    def allowed(self) -> Bool[Tensor, "S A"]:
        """Which actions a state offers: words, or to go on and to end."""
        offers = torch.zeros(len(self.prefixes), len(self.words) + 2, dtype=torch.bool)
        for s, prefix in enumerate(self.prefixes):
            after_word = len(prefix) % 2 == 1
            offers[s, : len(self.words)] = not after_word
            offers[s, len(self.words) :] = after_word
        return offers

    @cached_property
    def segments(self) -> Int[Tensor, "R T"]:
        """The word that each token is part of; -1 on separators, ends and padding."""
        places = torch.arange(self.tokens.shape[1])
        is_word = self.mask & (self.tokens < len(self.words))
        return torch.where(is_word, places // 2, -1)

    @cached_property
    def present(self) -> Bool[Tensor, "R M"]:
        """True where a response has so many words."""
        lengths = torch.tensor([len(response) for response in self.responses])
        return torch.arange(self.longest) < lengths.unsqueeze(-1)

    @cached_property
    def first(self) -> Bool[Tensor, "R M"]:
        """True on words that repeat no earlier one of their response."""
        flags = torch.zeros_like(self.present)
        for r, response in enumerate(self.responses):
            for m, word in enumerate(response):
                flags[r, m] = word not in response[:m]
        return flags

    @cached_property
    def kept(self) -> Int[Tensor, "R C"]:
        """The list of words that each coalition leaves: 0 for none, else 1 + its number.

        Column C is a bit pattern over the M places; bits of places without a word change nothing.
        """
        number = {response: r + 1 for r, response in enumerate(self.responses)} | {(): 0}
        patterns = [
            [m for m in range(self.longest) if pattern >> m & 1]
            for pattern in range(2**self.longest)
        ]
        return torch.tensor(
            [
                [number[tuple(response[m] for m in kept if m < len(response))] for kept in patterns]
                for response in self.responses
            ]
        )

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """R texts, as a person would read them."""
        return tuple(self.text(response) for response in self.responses)

    def text(self, response: tuple[int, ...]) -> str:
        """One list of words as text."""
        return ", ".join(self.words[word] for word in response)
