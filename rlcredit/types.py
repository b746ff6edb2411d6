"""Every value that flows between two stages, with its axes.

Axes, everywhere above the policy:

    P prompts    G rollouts per prompt    T response tokens    L prompt tokens
    M segments   C coalitions             K candidates         D embedding size

B = P * G exists only inside ``policy/``, ``rollout/`` and ``trainer/backward.py``. Masks are bool,
and True means "counts". Log-probabilities are in nats.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import blake2b
from typing import Protocol, TypeAlias, runtime_checkable

import torch
from beartype import beartype
from jaxtyping import Bool, Float, Int, jaxtyped
from torch import Tensor

Metrics: TypeAlias = dict[str, Tensor]
"""Scalars named ``stage/what_unit``; each value is a 0-dimensional tensor."""

checked = jaxtyped(typechecker=beartype)
"""Checks at construction that a record's tensors agree on their axes."""


@dataclass(frozen=True, kw_only=True)
class Randomness:
    """Where every random draw comes from: the run's seed, the step, a purpose, a global index.

    No rank and no history enter, so a draw is the same whatever the number of processes, the split
    into micro-batches, and however often the run was resumed.
    """

    seed: int
    step: int

    def generator(self, purpose: str, index: int = 0) -> torch.Generator:
        """A fresh CPU generator for one purpose and one global index (a prompt, a rollout)."""
        key = f"{self.seed}/{self.step}/{purpose}/{index}".encode()
        bits = int.from_bytes(blake2b(key, digest_size=8).digest(), "big")
        return torch.Generator().manual_seed(bits >> 1)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a verifier finds of one text."""

    well_formed: bool
    correct: bool
    solution: str = ""  # correct texts are the same solution exactly where these are equal


@runtime_checkable
class Problem(Protocol):
    """A question whose answers can be checked by rule. Made by ``data/``, asked by rewards."""

    def judge(self, text: str) -> Judgement:
        """Check an answer; no text raises."""
        ...


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What was said before a prompt in a conversation."""

    role: str
    """``user`` or ``assistant``."""
    content: str


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One task: what the policy reads, and what a search must find for it or an answer must be.

    Made by ``tasks/``; read by the policy (``instruction``, ``turns``, ``text``), rewards
    (``query``, ``relevance``, ``pool``; or ``problem``; or ``row``) and reports (``truth``).

    >>> Prompt(prompt_id="q7", text="tent for two", query="tent for two",
    ...        relevance={"p1": 3, "p2": 1}, pool=("p1", "p2", "p9"))  # doctest: +ELLIPSIS
    Prompt(prompt_id='q7', ...)
    """

    prompt_id: str
    text: str
    """What the policy reads: the user's message."""
    query: str
    """What a person would type into the search box; the raw-query baseline."""
    relevance: Mapping[str, int]
    """Document id -> grade (ESCI: E S C I = 3 2 1 0); unlisted documents count as 0."""
    pool: tuple[str, ...] = ()
    """Documents to rank; empty means the whole catalogue."""
    instruction: str = ""
    """System message, for models with a chat template."""
    truth: Mapping[str, str] = field(default_factory=dict)
    """Generated data only: each phrase that is true for the query -> its attribute."""
    problem: Problem | None = None
    """Problem, where answers are verified instead; ``query`` and ``relevance`` are empty."""
    turns: tuple[Turn, ...] = field(default=(), repr=False)
    """What user and assistant said before ``text``."""
    row: Mapping[str, object] = field(default_factory=dict, repr=False)
    """Further columns of data of one's own, for a reward of one's own."""

    @property
    def relevant(self) -> frozenset[str]:
        """The documents of a grade above 0."""
        return frozenset(document for document, grade in self.relevance.items() if grade)


@checked
@dataclass(frozen=True, kw_only=True)
class Responses:
    """Texts and their tokens: all that a scorer reads, whoever wrote them.

    Made by ``rollout/`` (as :class:`Rollouts`) and ``scoring/responses.py``.
    """

    prompts: tuple[Prompt, ...]
    """P of them."""
    texts: tuple[tuple[str, ...], ...]
    """P x G decoded responses, special tokens left out. Where a prompt ends in an open ``<think>``,
    the tag stands in front of the responses to it, and belongs to no token."""
    response_mask: Bool[Tensor, "P G T"]
    """True on every token of a response, the end-of-sequence token included."""
    char_spans: Int[Tensor, "P G T 2"] | None
    """Half-open characters of each token in its text; start = end for tokens without text. None
    where nothing but the texts is read."""

    @property
    def spans(self) -> Int[Tensor, "P G T 2"]:
        """The characters of each token.

        Raises:
            ValueError: If nobody looked for them.
        """
        if self.char_spans is None:
            raise ValueError(
                "these responses were sampled for their texts alone, and the characters of each "
                "token are asked for; sample with spans=True"
            )
        return self.char_spans


@checked
@dataclass(frozen=True, kw_only=True)
class Rollouts(Responses):
    """What the policy wrote. Made by ``rollout/``; read by scorer, trainer and reports."""

    prompt_ids: Int[Tensor, "P L"]
    """Left-padded."""
    prompt_mask: Bool[Tensor, "P L"]
    response_ids: Int[Tensor, "P G T"]
    """Right-padded; an end-of-sequence token, where the response has one, is its last token."""
    rollout_logprobs: Float[Tensor, "P G T"]
    """log of the probability with which the sampler drew each token (temperature applied)."""
    finished: Bool[Tensor, "P G"]
    """True where the policy ended the response itself; False where the length cap did."""
    temperature: float = 1.0
    """Temperature of the sampling distribution; every log-probability of these tokens is taken at
    it."""


@dataclass(frozen=True, kw_only=True)
class Continuations:
    """Fresh responses that go on from the text before a segment of a response."""

    states: tuple[tuple[int, int, int], ...]
    """Prompt, response in the group, and segment that was due: from 1 on, for the siblings are
    continuations of the prompt."""
    texts: tuple[tuple[str, ...], ...]
    """Whole texts, of the response's own words first; as many for each state."""
    num_tokens: int
    """Tokens that were sampled for them."""


@checked
@dataclass(frozen=True, kw_only=True)
class PolicySignals:
    """What the policy itself was asked about a batch. Made by ``rollout/``, read by the scorer.

    What was not asked for is None.
    """

    logprobs: Float[Tensor, "P G T"] | None = None
    """log pi of each token in nats, under the policy that is about to be updated."""
    sum_pi_squared: Float[Tensor, "P G T"] | None = None
    """The sum over the vocabulary of pi(v)^2 where each token was drawn."""
    continuations: Continuations | None = None


@runtime_checkable
class CoalitionPlan(Protocol):
    """Which coalitions of a response's players get a reward (see ``credit/coalitions.py``)."""

    def __call__(self, num_players: int, generator: torch.Generator) -> Bool[Tensor, "C M"]:
        """Membership masks; row 0 is the empty coalition, row 1 is everyone, no row repeats.

        Without players the two are the same, and row 0 is the only one.
        """
        ...

    def is_sampled(self, num_players: int) -> bool:
        """True where the coalitions exceed the budget, so that a sample of them is returned."""
        ...


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What must be computed before an estimator or a loss can be called."""

    coalitions: CoalitionPlan | None = None
    """Rewards of these coalitions of segments."""
    first_copies: bool = False
    """A segment that repeats an earlier one is no player (it gets credit 0)."""
    skips_equal_groups: bool = False
    """Groups of equal rewards get credit 0, so their coalitions need no reward."""
    candidates: bool = False
    embeddings: bool = False
    ref_logprobs: bool = False
    continuations: int = 0
    """Rewards of so many fresh responses that go on from the text before each segment."""
    sum_pi_squared: bool = False
    """Of the policy's distribution at each token, with the token's own log-prob."""
    entropy_rank: bool = False
    """Of each token among all of an update, before its gradient is taken."""

    @property
    def of_policy(self) -> bool:
        """Whether the policy itself is asked for more than its responses."""
        return self.sum_pi_squared or self.continuations > 0

    def __or__(self, other: "Needs") -> "Needs":
        """What meets both. Two different coalition plans cannot both be met: ValueError."""
        if self.coalitions and other.coalitions:
            mine = (self.coalitions, self.first_copies)
            theirs = (other.coalitions, other.first_copies)
            if mine != theirs:
                raise ValueError(
                    f"two coalition plans are asked for, {mine} and {theirs}, and a batch is "
                    "scored for one; use the same estimator.value in both places"
                )
        asking = [needs for needs in (self, other) if needs.coalitions]
        return Needs(
            coalitions=self.coalitions or other.coalitions,
            first_copies=self.first_copies or other.first_copies,
            skips_equal_groups=bool(asking) and all(needs.skips_equal_groups for needs in asking),
            candidates=self.candidates or other.candidates,
            embeddings=self.embeddings or other.embeddings,
            ref_logprobs=self.ref_logprobs or other.ref_logprobs,
            continuations=max(self.continuations, other.continuations),
            sum_pi_squared=self.sum_pi_squared or other.sum_pi_squared,
            entropy_rank=self.entropy_rank or other.entropy_rank,
        )


@checked
@dataclass(frozen=True, kw_only=True)
class Segments:
    """The segments of each response's scored text, in text order. Made by the scorer."""

    spans: Int[Tensor, "P G M 2"]
    """Half-open characters in the response's text; (0, 0) where ``mask`` is False."""
    mask: Bool[Tensor, "P G M"]
    valid: Bool[Tensor, "P G M"]
    """True where the task counts the segment (not empty, not too long)."""
    first: Bool[Tensor, "P G M"]
    """True where the segment repeats no earlier one of its response (case and spaces aside)."""
    ids: Int[Tensor, "P G T"]
    """Segment of each token; -1 outside every segment (separators, end of sequence, padding)."""


@checked
@dataclass(frozen=True, kw_only=True)
class CoalitionGame:
    """Rewards of coalitions of segments: the cooperative game played by one response.

    Example, one response of three segments whose third repeats its first (no player), all windows:

        players   [1, 1, 0]
        members   [0, 0, 0]  [1, 1, 0]  [1, 0, 0]  [0, 1, 0]
        rewards    0.0        0.7        0.2        0.4
        evaluated  1          1          1          1
    """

    players: Bool[Tensor, "P G M"]
    """Segments that play; the others are null and get credit 0."""
    members: Bool[Tensor, "P G C M"]
    """Row 0 is empty, row 1 is every player."""
    rewards: Float[Tensor, "P G C"]
    """v(S) in reward units; v(empty) = 0; 0 where not evaluated.

    Where a text without segments earns a reward (the query in front of every text does), that is
    taken off every value. v(everyone) is the response's reward; where that is also earned by
    segments that do not play (copies that the task counts), it is the reward of the text without
    them.
    """
    evaluated: Bool[Tensor, "P G C"]
    """False on padding rows, and beyond row 1 in skipped groups (``skips_equal_groups``)."""
    sampled: Bool[Tensor, "P G"]
    """True where the plan exceeded its budget and a sample of it was evaluated."""
    unions: Int[Tensor, "P G M"] | None = None
    """A-priori union (the sentence) of each segment; None: the text is one union."""


@checked
@dataclass(frozen=True, kw_only=True)
class CandidateRewards:
    """Reward of each listed candidate alone."""

    rewards: Float[Tensor, "P G K"]
    mask: Bool[Tensor, "P G K"]
    """True where the response lists a candidate that is not empty."""
    candidate_ids: Int[Tensor, "P G T"]
    """Candidate of each token; -1 outside every candidate."""
    num_asked: int
    """How many candidates the prompts ask for; a response of more or fewer is incomplete."""
    first: Bool[Tensor, "P G K"] | None = None
    """True where the candidate repeats no earlier one of its response; None: nobody looked."""
    covers: Bool[Tensor, "P G K E"] | None = None
    """Which elements (say, relevant documents) each candidate covers, where that is measured."""

    @property
    def complete(self) -> Bool[Tensor, "P G"]:
        """True where a response lists exactly as many candidates as its prompt asks for."""
        return self.mask.sum(dim=-1) == self.num_asked


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a reward was asked for, and what of it cost something.

    Made by rewards that count; read by ``rollout/health.py`` once all processes' are added up.
    """

    asked: int = 0
    """(prompt, text) pairs."""
    distinct: int = 0
    """Pairs that are left where repetitions within a call are left out."""
    remembered: int = 0
    """Distinct pairs whose reward was in a cache."""
    texts: int = 0
    """Distinct texts that an encoding was needed for."""
    remembered_texts: int = 0
    """Texts whose encoding was in a cache."""
    truncated: int = 0
    """Computed texts that are longer than the encoder reads."""

    def __sub__(self, earlier: "Counts") -> "Counts":
        """What was counted since."""
        return type(self)(**{name: mine - vars(earlier)[name] for name, mine in vars(self).items()})

    def __add__(self, more: "Counts") -> "Counts":
        """Both together."""
        return Counts(**{f.name: vars(self)[f.name] + vars(more)[f.name] for f in fields(self)})

    def metrics(self) -> Metrics:
        """Shares of what was found in caches; 0 where nothing was looked up.

        They depend on what a cache happens to hold, hence ``perf/``; rewards do not.
        """
        found = {
            "perf/cache_hit": self.remembered / max(self.distinct, 1),
            "perf/encoding_cache_hit": self.remembered_texts / max(self.texts, 1),
            "perf/truncated_texts": float(self.truncated),
        }
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}


@checked
@dataclass(frozen=True, kw_only=True)
class Signals:
    """All that is known about a batch of rollouts before any gradient is taken.

    Made by ``scoring/scorer.py``. Signals not declared in ``Needs`` are None; estimators say so.
    """

    rewards: Float[Tensor, "P G"]
    response_mask: Bool[Tensor, "P G T"]
    segments: Segments | None = None
    game: CoalitionGame | None = None
    candidates: CandidateRewards | None = None
    embeddings: Float[Tensor, "P G D"] | None = None
    logprobs: Float[Tensor, "P G T"] | None = None
    """log pi of each token in nats, under the policy that is about to be updated."""
    sum_pi_squared: Float[Tensor, "P G T"] | None = None
    """The sum over the vocabulary of pi(v)^2 where each token was drawn."""
    state_values: Float[Tensor, "P G S"] | None = None
    """Mean reward of continuations of the text before each segment, and before what follows the
    last (S = M + 1), in reward units; 0 in the first column and where nothing was sampled."""
    randomness: Randomness | None = None
    """Source of draws, for control arms that draw their credit."""
    num_evaluations: int = 0
    """(prompt, text) pairs that the reward was asked for."""
    num_extra_tokens: int = 0
    """Tokens that were sampled besides those of the responses."""
    counts: Counts | None = None
    """What the reward was asked for, where it counts that."""


@checked
@dataclass(frozen=True, kw_only=True)
class Advantages:
    """Credit per token, and what to log about it. Made by an estimator; read by the loss."""

    values: Float[Tensor, "P G T"]
    """Zero wherever the response mask is False."""
    credit: Float[Tensor, "P G T"] | None = None
    """Credit in reward units before it was made an advantage, where the method has one."""
    metrics: Metrics = field(default_factory=dict)


@checked
@dataclass(frozen=True, kw_only=True)
class UpdateBatch:
    """What a policy loss may look at besides the current log-probs."""

    advantages: Float[Tensor, "P G T"]
    response_mask: Bool[Tensor, "P G T"]
    old_logprobs: Float[Tensor, "P G T"]
    """Under the policy before the batch's first update, as the trainer computes them."""
    rollout_logprobs: Float[Tensor, "P G T"]
    """Under the sampler, as it reported them."""
    ref_logprobs: Float[Tensor, "P G T"] | None = None
    entropy_rank: Float[Tensor, "P G T"] | None = None
    """Share of the update's other tokens whose entropy is higher, over all ranks and micro-batches:
    0 at the highest, at most 1; equal entropies share their rank."""
    num_tokens: int
    """Response tokens over all ranks and micro-batches of this update."""
    num_rollouts: int
    """Rollouts over all ranks and micro-batches of this update."""
    num_prompts: int
    """Prompts over all ranks and micro-batches of this update."""


@checked
@dataclass(frozen=True, kw_only=True)
class Loss:
    """A scalar to minimise, and what to log about it.

    ``metrics`` are sums already divided by the update's global counts, so that adding them over
    micro-batches and ranks gives the update's figure.
    """

    value: Float[Tensor, ""]
    metrics: Metrics = field(default_factory=dict)
