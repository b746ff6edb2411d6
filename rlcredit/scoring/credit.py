"""Credit for a trainer, or a notebook, of one's own: responses in, an advantage per token out."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import isroutine
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.estimators import Max
from rlcredit.estimators.base import AdvantageEstimator, SetUtility
from rlcredit.retrieval.base import Encoder
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.encoders import Hashing
from rlcredit.rewards.base import Reward, scores_parts
from rlcredit.rewards.costs import earned
from rlcredit.rewards.function import FunctionReward
from rlcredit.scoring.named import estimator_named
from rlcredit.scoring.responses import of_texts, of_tokens
from rlcredit.scoring.samples import Completion, completions
from rlcredit.scoring.scorer import Scorer
from rlcredit.text.base import Segmenter
from rlcredit.text.render import coalition_text
from rlcredit.text.response import TextRules
from rlcredit.text.segmenters import Phrases
from rlcredit.text.spans import Span
from rlcredit.text.tokens import Tokenizer
from rlcredit.types import Advantages, Prompt, Randomness, Responses, Signals

PromptLike = Prompt | str | Mapping[str, Any]
"""A prompt, its text alone, or a row of one's own data (:func:`prompt_of`)."""


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A part of a response that was scored: some of its segments, the others deleted."""

    prompt: int
    """Index of the prompt."""
    response: int
    """Index of the response in its group."""
    members: tuple[bool, ...]
    """Which of the response's segments are in it."""
    text: str
    reward: float
    """In reward units, less what a response of no segment earns."""


@dataclass(frozen=True, kw_only=True)
class Credited:
    """A batch of P groups of G responses with its credit."""

    responses: Responses
    signals: Signals
    """All that the estimator looked at."""
    result: Advantages
    """All that it gave."""

    @property
    def advantages(self) -> Float[Tensor, "P G T"]:
        """Advantage of each token; 0 outside responses."""
        return self.result.values

    @property
    def credit(self) -> Float[Tensor, "P G T"] | None:
        """Credit of each token in reward units; None where the method credits whole responses."""
        return self.result.credit

    @property
    def rewards(self) -> Float[Tensor, "P G"]:
        """Reward of each response."""
        return self.signals.rewards

    @property
    def completions(self) -> list[Completion]:
        """The P * G responses, prompt by prompt: text, reward, and each segment with its credit."""
        return completions(self.responses, self.signals, self.result)

    @property
    def subsets(self) -> list[Subset]:
        """The parts of responses whose reward is known, as the estimator asked for them.

        The first of each response is the empty one and the second has all segments that count.
        Empty where the estimator reads whole responses or candidates.
        """
        game, segments = self.signals.game, self.signals.segments
        if game is None or segments is None:
            return []
        found: list[Subset] = []
        for p, g, c in game.evaluated.nonzero().tolist():
            there = segments.mask[p, g]
            text = self.responses.texts[p][g]
            spans = segments.spans[p, g][there].tolist()
            members = game.members[p, g, c][there].tolist()
            found.append(
                Subset(
                    prompt=p,
                    response=g,
                    members=tuple(members),
                    text=coalition_text(text, [Span(*pair) for pair in spans], members),
                    reward=float(game.rewards[p, g, c]),
                )
            )
        return found


class Credit:
    """Credits the tokens of responses that any sampler wrote.

    No engine is needed: nothing is sampled and nothing is trained. The advantages are those of a
    run of this package with the same estimator, reward, segmenter, rules, seed and step.

    >>> def score(texts, rows):  # how many of the words that a row wants a text has
    ...     return [float(sum(w in t for w in r["wanted"])) for t, r in zip(texts, rows)]
    >>> credit = Credit(reward=score, estimator="loo")
    >>> found = credit([{"prompt": "a tent", "wanted": ["red"]}], [["red, big", "big, wet"]])
    >>> [(part.text, part.credit) for part in found.completions[0].segments]
    [('red', 1.0), ('big', 0.0)]
    >>> found.advantages.shape  # without a tokenizer a character is a token
    torch.Size([1, 2, 8])
    """

    def __init__(
        self,
        *,
        reward: Reward | Callable[[list[str], list[dict[str, Any]]], Any],
        estimator: AdvantageEstimator | str = "ospo",
        segmenter: Segmenter | None = None,
        rules: TextRules | None = None,
        utility: SetUtility | None = None,
        encoder: Encoder | None = None,
        seed: int = 0,
    ) -> None:
        """Put the parts together.

        Args:
            reward: A function ``(texts, rows) -> floats``, plain or ``async``, or an object that is
                a :class:`Reward`: called with prompts and texts. :meth:`FunctionReward.at_hand`
                makes a reward of any other object that can be called with texts and rows.
            estimator: One of :mod:`rlcredit.estimators`, or its name on the command line.
            segmenter: Cuts a response; None: at its commas.
            rules: What of a response is scored, and which phrases count; None: all of it.
            utility: What a set of candidates earns, where ``rules.num_candidates`` asks for sets;
                None: its best candidate's reward.
            encoder: Makes the embeddings that SetPO compares; None: hashed runs of characters.
            seed: Of sampled subsets and random credit.

        Raises:
            ValueError: If the estimator is unknown, or asks for rewards that this reward or these
                rules cannot give.
        """
        utility = Max() if utility is None else utility
        named = isinstance(estimator, str)
        self.estimator = estimator_named(estimator, utility=utility) if named else estimator
        self.scorer = Scorer(
            reward=_reward(reward),
            rules=TextRules() if rules is None else rules,
            segmenter=Phrases() if segmenter is None else segmenter,
            utility=utility,
            encoder=Hashing() if encoder is None else encoder,
        )
        self.seed = seed
        needs = self.estimator.needs
        if needs.of_policy:
            raise ValueError(
                f"{type(self.estimator).__name__} asks the policy for more than its responses, and "
                "here no policy is at hand; train with it (rlcredit train), or call it with "
                "Signals that hold what it needs"
            )
        of_parts = needs.coalitions is not None or needs.candidates
        if of_parts and not scores_parts(self.scorer.reward):
            raise ValueError(
                f"{type(self.estimator).__name__} asks for the reward of parts of a response, and "
                "this reward says that a part means nothing (parts=False); use an estimator of "
                "whole responses, such as estimator='grpo'"
            )
        self.scorer.check(needs)

    def __call__(
        self,
        prompts: Sequence[PromptLike],
        responses: Sequence[Sequence[str]],
        *,
        tokenizer: Tokenizer | None = None,
        step: int = 0,
        offset: int = 0,
    ) -> Credited:
        """Credit responses that are known as texts.

        Args:
            prompts: P of them.
            responses: [P][G] texts.
            tokenizer: Cuts them into tokens; None: every character is one.
            step: Of the training, for sampled subsets and random credit.
            offset: Global index of the first prompt, where several processes share a step.

        Raises:
            ValueError: If the groups have different sizes, or a row has no prompt.
            RuntimeError: If the reward cannot be had.
        """
        read = of_texts([prompt_of(prompt) for prompt in prompts], responses, tokenizer)
        return self.of_responses(read, step=step, offset=offset)

    def of_tokens(
        self,
        prompts: Sequence[PromptLike],
        ids: Int[Tensor, "P G T"],
        mask: Bool[Tensor, "P G T"],
        tokenizer: Tokenizer,
        *,
        opened: Sequence[str] = (),
        step: int = 0,
        offset: int = 0,
    ) -> Credited:
        """Credit responses as a sampler drew them, token by token.

        Args:
            prompts: P of them.
            ids: Tokens of G responses to each.
            mask: True on the tokens of a response, its end token included.
            tokenizer: The sampler's.
            opened: The thought that each prompt opens for its responses; empty: none does.
            step: Of the training, for sampled subsets and random credit.
            offset: Global index of the first prompt, where several processes share a step.

        Raises:
            ValueError: If the shapes do not fit, or a row has no prompt.
            RuntimeError: If the reward cannot be had.
        """
        given = [prompt_of(prompt) for prompt in prompts]
        read = of_tokens(given, ids, mask.bool(), tokenizer, opened=opened)
        return self.of_responses(read, step=step, offset=offset)

    def of_responses(self, responses: Responses, *, step: int = 0, offset: int = 0) -> Credited:
        """Credit responses that were read before (:mod:`rlcredit.scoring.responses`)."""
        randomness = Randomness(seed=self.seed, step=step)
        signals = self.scorer(responses, self.estimator.needs, randomness=randomness, offset=offset)
        return Credited(responses=responses, signals=signals, result=self.estimator(signals))


def score(
    texts: Sequence[str],
    prompts: Sequence[PromptLike],
    *,
    reward: Reward | Callable[[list[str], list[dict[str, Any]]], Any],
    rules: TextRules | None = None,
) -> Float[Tensor, " N"]:
    """What responses earn, as a run of this package would score them.

    >>> score(["red, tent"], ["a tent"], reward=lambda texts, rows: [len(t) for t in texts])
    tensor([9.])

    Args:
        texts: N responses.
        prompts: The prompt of each.
        reward: As :class:`Credit` takes it.
        rules: What of a response is scored; None: all of it.

    Raises:
        ValueError: If there are not as many prompts as texts.
        RuntimeError: If the reward cannot be had.
    """
    if len(texts) != len(prompts):
        raise ValueError(f"{len(texts)} texts for {len(prompts)} prompts; each text needs its own")
    if not texts:
        return torch.zeros(0)
    rules = TextRules() if rules is None else rules
    given = [prompt_of(prompt) for prompt in prompts]
    written = [rules.scored_span(text).of(text) for text in texts]
    asked = zip(written, given, strict=True)
    searched = [rules.search_text(text, query=prompt.query) for text, prompt in asked]
    return earned(_reward(reward), given, written=written, searched=searched)


def prompt_of(given: PromptLike) -> Prompt:
    """A prompt from its text, or from a row of one's own data.

    A row has ``prompt`` (what the policy read) and may have ``prompt_id``, ``query`` and
    ``relevance`` (document id -> grade); a reward function gets every column. Without an id a
    prompt is known by all that it holds.

    Raises:
        ValueError: If a row has no prompt, or a column has another type.
    """
    if isinstance(given, Prompt):
        return given
    row: Mapping[str, Any] = {"prompt": given} if isinstance(given, str) else given
    text = row.get("prompt")
    if not isinstance(text, str):
        raise ValueError(
            f"a row with the columns {', '.join(map(str, row)) or '(none)'} has prompt={text!r}; "
            "give what the policy read as a text in its column prompt"
        )
    query, relevance = row.get("query", text), row.get("relevance", {})
    if not isinstance(query, str) or not isinstance(relevance, Mapping):
        raise ValueError(
            f"the row of prompt {text[:60]!r} has query={query!r} and relevance={relevance!r}; a "
            "query is a text, and relevance a mapping from a document's id to its grade"
        )
    known = digest("prompt", json.dumps({str(k): _plain(str(k), row[k]) for k in sorted(row)}))
    return Prompt(
        prompt_id=str(row.get("prompt_id", known)),
        text=text,
        query=query,
        relevance={str(document): int(grade) for document, grade in relevance.items()},
        row={name: value for name, value in row.items() if name not in _OWN},
    )


_OWN = frozenset({"prompt", "prompt_id", "query", "relevance"})


def _plain(column: str, value: object) -> object:
    """A value that a row can be known by."""
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"column {column} holds a {type(value).__name__}, by which a row cannot be known "
            f"({error}); give texts, numbers, lists and mappings, such as array.tolist()"
        ) from error
    return value


def _reward(given: Reward | Callable[..., Any]) -> Reward:
    if isroutine(given) or isinstance(given, partial):
        return FunctionReward.at_hand(given)
    return given
