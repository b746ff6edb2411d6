"""The scorer: it turns what the policy wrote into all that an estimator may look at.

A response's scored text is cut into segments; whole responses, and the coalitions of segments that
are asked for, get a reward. Knows neither which estimator asks nor how a reward comes about.
"""

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.credit.group import equal_rewards
from rlcredit.estimators.base import AdvantageEstimator, Grain, SetUtility
from rlcredit.retrieval.base import Encoder
from rlcredit.rewards.base import Reward, scores_parts
from rlcredit.rewards.costs import charges, earned
from rlcredit.scoring.candidates import SetScorer
from rlcredit.scoring.coalitions import CoalitionRequest, Part, Planner, game, request
from rlcredit.text.base import Segmenter
from rlcredit.text.render import coalition_text
from rlcredit.text.response import Compose, TextRules, segment_key
from rlcredit.text.segmenters import Sentences
from rlcredit.text.spans import Span
from rlcredit.text.tokens import segment_ids
from rlcredit.types import (
    CandidateRewards,
    CoalitionGame,
    Continuations,
    Counts,
    Needs,
    PolicySignals,
    Prompt,
    Randomness,
    Responses,
    Segments,
    Signals,
)


def reads_segments(estimator: AdvantageEstimator, reward: Reward) -> bool:
    """Whether the segments of responses, and the characters of their tokens, are of use.

    They are where a part of a response has a reward that means something, or where the estimator
    credits parts of a response. Answers that are verified as a whole have no such parts.
    """
    return scores_parts(reward) or estimator.grain not in (Grain.rollout, Grain.token)


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Computes what is needed, and nothing else, in one call of the reward for each kind."""

    reward: Reward
    rules: TextRules
    segmenter: Segmenter
    utility: SetUtility | None = None
    """What a set of candidates earns; read where the rules ask for candidates."""
    encoder: Encoder | None = None
    """Makes the embeddings of responses; only read where they are needed."""
    counts: Callable[[], Counts] | None = None
    """What the reward was asked for so far, where it counts that."""

    def __call__(
        self,
        responses: Responses,
        needs: Needs,
        *,
        randomness: Randomness,
        offset: int = 0,
        seen: PolicySignals | None = None,
    ) -> Signals:
        """Rewards of all responses, and what else ``needs`` asks for.

        Segments are found where the characters of each token are known (:func:`reads_segments`):
        a run's health shows in them. Coalitions are asked for in a second call, when it is known
        which groups have equal rewards and need none.

        Args:
            responses: P x G of them.
            needs: Of the estimator and the loss together.
            randomness: Source of sampled coalitions.
            offset: Global index of the first prompt.
            seen: What the policy was asked about the responses; None: no policy is at hand.

        Raises:
            ValueError: If candidates are needed, embeddings without an encoder, or coalitions of
                responses that were sampled for their texts alone.
        """
        self.check(needs)
        seen = seen or PolicySignals()
        finds = responses.char_spans is not None or needs.coalitions is not None
        before = self.counts() if self.counts else Counts()
        cut = self.cut if finds else self.uncut
        parts = [[cut(text) for text in group] for group in responses.texts]
        candidates, rewards, num_asked = self._rewards(responses, parts)
        rewards = rewards.to(responses.response_mask.device)
        segments = _segments(responses, parts) if finds else None
        asked = _Batch(rules=self.rules)
        played = None
        if needs.coalitions is not None:
            planner = Planner(plan=needs.coalitions, randomness=randomness)
            played = self._played(responses.prompts, parts, rewards, needs, planner, offset, asked)
        values, num_continued = self._state_values(responses, segments, seen.continuations)
        return Signals(
            rewards=rewards,
            response_mask=responses.response_mask,
            segments=segments,
            game=played,
            candidates=candidates,
            embeddings=self._embeddings(responses, parts) if needs.embeddings else None,
            logprobs=seen.logprobs,
            sum_pi_squared=seen.sum_pi_squared,
            state_values=values,
            randomness=randomness,
            num_evaluations=num_asked + len(asked.texts) + num_continued,
            num_extra_tokens=seen.continuations.num_tokens if seen.continuations else 0,
            counts=self.counts() - before if self.counts else None,
        )

    def _rewards(
        self, responses: Responses, parts: Sequence[Sequence[Part]]
    ) -> tuple[CandidateRewards | None, Float[Tensor, "P G"], int]:
        """Candidates where the task asks for them, rewards of responses, how many were asked."""
        if self.rules.num_candidates:
            assert self.utility is not None, "a task of sets has a utility"
            return SetScorer(reward=self.reward, rules=self.rules, utility=self.utility)(responses)
        whole = _Batch(rules=self.rules)
        for prompt, group in zip(responses.prompts, parts, strict=True):
            for part in group:
                whole.add(prompt, [part.scored.of(part.text)])
        rewards = whole.rewards(self.reward).reshape(responses.response_mask.shape[:2])
        return None, rewards, len(whole.texts)

    def segments(self, responses: Responses) -> Segments:
        """The segments of responses, without any reward."""
        return _segments(responses, [[self.cut(text) for text in g] for g in responses.texts])

    def _state_values(
        self, responses: Responses, segments: Segments | None, continued: Continuations | None
    ) -> tuple[Float[Tensor, "P G S"] | None, int]:
        """Mean rewards of continuations, by the segment that was due, and how many were asked."""
        if continued is None or segments is None:
            return None, 0
        batch = _Batch(rules=self.rules)
        for (p, _, _), texts in zip(continued.states, continued.texts, strict=True):
            batch.add(responses.prompts[p], [self.rules.scored_span(t).of(t) for t in texts])
        rewards = batch.rewards(self.reward).to(segments.mask.device)
        values = rewards.new_zeros((*segments.mask.shape[:2], segments.mask.shape[2] + 1))
        if continued.states:
            means = rewards.view(len(continued.states), -1).mean(dim=-1)
            values[tuple(torch.tensor(continued.states, device=values.device).T)] = means
        return values, len(batch.texts)

    def uncut(self, text: str) -> Part:
        """The scored text of a response alone."""
        scored = self.rules.scored_span(text)
        return Part(text=text, scored=scored, spans=(), valid=(), first=(), sentences=())

    def cut(self, text: str) -> Part:
        """The scored text of a response, and its segments with their flags.

        Where a response offers candidates, each is cut for itself.
        """
        scored = self.rules.scored_span(text)
        found = [
            (number, Span(piece.start + start, piece.start + end))
            for number, piece in enumerate(self.rules.pieces(text))
            for start, end in self.segmenter(piece.of(text))
        ]
        spans = [span for _, span in found]
        starts = [start for start, _ in Sentences()(scored.of(text))]
        written = [span.of(text) for span in spans]
        keys = [(number, segment_key(span.of(text))) for number, span in found]
        return Part(
            text=text,
            scored=scored,
            spans=tuple(spans),
            valid=tuple(self.rules.is_valid(segment) for segment in written),
            first=tuple(keys.index(key) == index for index, key in enumerate(keys)),
            sentences=tuple(bisect(starts, span.start - scored.start) - 1 for span in spans),
        )

    def check(self, needs: Needs) -> None:
        """Refuse needs that these rules and parts cannot meet.

        Raises:
            ValueError: With the remedy.
        """
        if needs.candidates and not self.rules.num_candidates:
            raise ValueError(
                "candidates are needed, and the task's responses are one text each; set "
                "dataset.candidates=4 (or another number)"
            )
        if needs.coalitions is not None and self.rules.num_candidates:
            raise ValueError(
                "coalitions of segments are needed, and the task's responses are sets of texts; "
                "set dataset.candidates=0, or use an estimator of candidates or whole responses"
            )
        if needs.embeddings and self.encoder is None:
            raise ValueError("embeddings are needed, and no encoder is there; choose encoder=...")

    def _played(
        self,
        prompts: Sequence[Prompt],
        parts: Sequence[Sequence[Part]],
        rewards: Float[Tensor, "P G"],
        needs: Needs,
        planner: Planner,
        offset: int,
        batch: "_Batch",
    ) -> CoalitionGame:
        """Every response's game; what the reward is asked for is added to ``batch``."""
        unequal = (~equal_rewards(rewards)).tolist()
        group_size = rewards.shape[1]
        games: list[list[CoalitionRequest]] = []
        for p, (prompt, group) in enumerate(zip(prompts, parts, strict=True)):
            games.append([])
            for g, part in enumerate(group):
                one = request(
                    part,
                    planner,
                    self.rules,
                    row=(offset + p) * group_size + g,
                    first_copies=needs.first_copies,
                    live=unequal[p] or not needs.skips_equal_groups,
                    charges=charges(self.reward),
                )
                texts = [
                    coalition_text(part.text, part.spans, members)
                    for members in one.members[one.num_known :].tolist()
                ]
                batch.add(prompt, texts)
                games[-1].append(one)
        most = max(1, *(len(part.spans) for group in parts for part in group))
        values, nothing = self._values(prompts, batch)
        return game(games, rewards, values, num_segments=most, nothing=nothing.to(rewards))

    def _values(
        self, prompts: Sequence[Prompt], batch: "_Batch"
    ) -> tuple[Float[Tensor, " N"], Float[Tensor, " P"]]:
        """What the coalitions earn, and what a response of no segment earns to each prompt."""
        if self.rules.compose is Compose.own:
            return batch.rewards(self.reward), torch.zeros(len(prompts))
        num_coalitions = len(batch.texts)
        for prompt in prompts:
            batch.add(prompt, [""])
        found = batch.rewards(self.reward)
        return found[:num_coalitions], found[num_coalitions:]

    def _embeddings(
        self, responses: Responses, parts: Sequence[Sequence[Part]]
    ) -> Float[Tensor, "P G D"]:
        assert self.encoder is not None  # checked before anything was computed
        texts = [
            "; ".join(piece.of(part.text) for piece in self.rules.pieces(part.text))
            for group in parts
            for part in group
        ]
        rows = self.encoder(texts)
        mask = responses.response_mask
        return rows.unflatten(0, tuple(mask.shape[:2])).to(mask.device)


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """(prompt, text) pairs for one call of the reward."""

    rules: TextRules
    prompts: list[Prompt] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    """As they are written."""
    _known: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, prompt: Prompt, texts: Sequence[str]) -> None:
        """Scored texts, or pieces of one, on their way through the task's rules."""
        self.prompts.extend([prompt] * len(texts))
        self.texts.extend(texts)

    def _searched_with(self, text: str, query: str) -> str:
        key = (query, text)
        if key not in self._known:
            self._known[key] = self.rules.search_text(text, query=query)
        return self._known[key]

    def rewards(self, reward: Reward) -> Float[Tensor, " N"]:
        """Get the rewards of all pairs in one call; none is made where there is nothing to ask."""
        if not self.texts:
            return torch.zeros(0)
        pairs = zip(self.prompts, self.texts, strict=True)
        searched = [self._searched_with(text, prompt.query) for prompt, text in pairs]
        return earned(reward, self.prompts, written=self.texts, searched=searched)


def _segments(responses: Responses, parts: Sequence[Sequence[Part]]) -> Segments:
    """The segments as tensors; at least one column, so that reductions over them are defined."""
    rows = [part for group in parts for part in group]
    most = max(1, *(len(part.spans) for part in rows))
    spans = [[*part.spans, *[Span(0, 0)] * (most - len(part.spans))] for part in rows]
    flags = [
        [[*row, *[False] * (most - len(row))] for row in column]
        for column in (
            [[True] * len(part.spans) for part in rows],
            [part.valid for part in rows],
            [part.first for part in rows],
        )
    ]
    device = responses.response_mask.device
    mask, valid, first = torch.tensor(flags, dtype=torch.bool, device=device)
    chars = responses.spans.flatten(0, 1).cpu()
    ids = torch.stack(
        [segment_ids(row, part.spans) for row, part in zip(chars, rows, strict=True)]
    ).to(device)
    groups = tuple(responses.response_mask.shape[:2])
    outside = ~responses.response_mask
    return Segments(
        spans=torch.tensor(spans, device=device).unflatten(0, groups),
        mask=mask.unflatten(0, groups),
        valid=valid.unflatten(0, groups),
        first=first.unflatten(0, groups),
        ids=ids.unflatten(0, groups).masked_fill(outside, -1),
    )
