"""Rewards that one process asks for and another one reads: as text beside a response."""

import copy
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor

from rlcredit.rewards.base import Reward, scores_parts
from rlcredit.rewards.costs import ChargingReward, WordCosts
from rlcredit.scoring.candidates import CoveringReward
from rlcredit.scoring.credit import Credit, PromptLike, prompt_of
from rlcredit.types import Prompt, Randomness, Responses

_CLOSE = 1e-4
"""How far two rewards of one text may be apart, relative to the larger of them and 1."""
_FREE = WordCosts(word=0.0, unknown=0.0, known=None)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What scoring a response and its parts has told."""

    rewards: Mapping[str, float]
    """Text as it was scored -> its reward, before words cost."""
    failure: str = ""
    """Why there are no rewards."""

    def packed(self) -> str:
        """As text."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def unpacked(cls, text: str) -> "Record":
        """From text."""
        return cls(**json.loads(text))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Behind:
    """A reward in front of another one, whose costs and documents it has."""

    reward: Reward

    @property
    def costs(self) -> WordCosts:
        """What the words of a text cost."""
        return self.reward.costs if isinstance(self.reward, ChargingReward) else _FREE

    def covered(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[frozenset[str]]:
        """The relevant documents that each text finds.

        Raises:
            TypeError: If the reward behind cannot say.
        """
        if not isinstance(self.reward, CoveringReward):
            raise TypeError(
                f"{type(self.reward).__name__} does not say which documents a text finds, which "
                "the utility of this credit needs; take utility=Max()"
            )
        return self.reward.covered(prompts, texts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording(_Behind):
    """A :class:`Reward` that keeps what it has told, for the texts of one prompt."""

    rewards: dict[str, float] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """What the reward behind says."""
        values = self.reward(prompts, texts)
        self.rewards.update(zip(texts, values.tolist(), strict=True))
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Recalled(_Behind):
    """A :class:`Reward` that knows what was told, and nothing else."""

    known: Mapping[tuple[str, str], float]
    """(prompt id, text) -> reward."""

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Float[Tensor, " N"]:
        """What was told of each text for the prompt beside it, in float32.

        Raises:
            RuntimeError: If nothing was told of a text.
        """
        values: list[float] = []
        for prompt, text in zip(prompts, texts, strict=True):
            if (prompt.prompt_id, text) not in self.known:
                raise RuntimeError(
                    f"no reward was told of {text[:60]!r} for prompt {prompt.prompt_id}: who "
                    "scored the responses read them otherwise; give all processes one version of "
                    "the code, of the settings and of the tokenizer"
                )
            values.append(self.known[prompt.prompt_id, text])
        return torch.tensor(values, dtype=torch.float32)


def scored_alone(
    credit: Credit, response: Responses, *, step: int, number: int
) -> tuple[float, Record]:
    """What one response earns, and what it and all parts do that any estimate could need.

    Args:
        credit: Says what is needed.
        response: One, to one prompt. Its siblings are not known, so neither is whether their
            rewards are equal; embeddings are left to who has them all.
        step: Of the training.
        number: Global index of the response; its sampled subsets follow both.

    Raises:
        RuntimeError: If the reward cannot be had.
    """
    recording = Recording(reward=credit.scorer.reward)
    signals = replace(credit.scorer, reward=recording)(
        response,
        replace(credit.estimator.needs, skips_equal_groups=False, embeddings=False),
        randomness=Randomness(seed=credit.seed, step=step),
        numbers=torch.tensor([[number]]),
    )
    return float(signals.rewards), Record(rewards=recording.rewards)


def recalling(credit: Credit, records: Iterable[tuple[PromptLike, Record]]) -> Credit:
    """The credit, with the rewards that were told in the place of its own.

    Raises:
        RuntimeError: If two records say that one text earned different rewards.
    """
    found = copy.copy(credit)
    reward = Recalled(reward=credit.scorer.reward, known=told_of(records))
    found.scorer = replace(credit.scorer, reward=reward)
    return found


def told_of(records: Iterable[tuple[PromptLike, Record]]) -> dict[tuple[str, str], float]:
    """(prompt id, text) -> reward, of the records of responses to these prompts.

    Where two differ in their last bits, the smaller one counts, whatever their order.

    Raises:
        RuntimeError: If two say that one text earned different rewards.
    """
    known: dict[tuple[str, str], float] = {}
    for prompt, record in records:
        prompt_id = prompt_of(prompt).prompt_id
        for text, reward in record.rewards.items():
            other = known.setdefault((prompt_id, text), reward)
            if not math.isclose(reward, other, rel_tol=_CLOSE, abs_tol=_CLOSE):
                raise RuntimeError(
                    f"{text[:60]!r} earned {reward:g} and {other:g} for prompt {prompt_id}: two "
                    "processes score with different data or versions, or the reward leaves "
                    "something to chance; a text has one reward for a prompt"
                )
            known[prompt_id, text] = min(reward, other)
    return known


@scores_parts.register(Recording)
@scores_parts.register(Recalled)
def _(reward: _Behind) -> bool:
    """As the reward behind."""
    return scores_parts(reward.reward)
