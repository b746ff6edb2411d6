"""Responses as other trainers hold them, in groups of whatever sizes, credited a size a call."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.scoring.credit import Credit, PromptLike
from rlcredit.scoring.responses import padded
from rlcredit.text.response import opened_thought
from rlcredit.text.tokens import Tokenizer, decoded

_CLOSE = 1e-4
"""How far a trainer's reward may lie from ours, relative to the larger of it and 1."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A response that a trainer's sampler wrote."""

    group: Hashable
    """What responses to one prompt share."""
    prompt: PromptLike
    prompt_ids: Sequence[int]
    """Tokens that the policy read."""
    ids: Sequence[int]
    """Tokens that it wrote, the end token included."""
    reward: float | None
    """What the trainer holds that it earned; None: nothing."""
    number: int | None = None
    """Global index of the response, which its sampled subsets follow, where it has one in the
    trainer; None: that of its place among those that are credited. All have one, or none."""


@dataclass(frozen=True, kw_only=True)
class Earned:
    """What a response earned."""

    advantages: Float[Tensor, " T"]
    """One a token that was written."""
    reward: float


def credited(
    credit: Credit, written: Sequence[Written], tokenizer: Tokenizer, *, step: int, offset: int = 0
) -> list[Earned]:
    """Credit the tokens of responses, in their order.

    Groups of one size are credited together, the first group of all sizes first.

    Args:
        credit: Makes the advantages.
        written: Responses of whole groups, in any order.
        tokenizer: The sampler's.
        step: Of the training, for sampled subsets and random credit.
        offset: Number of groups that were credited in this step before.

    Raises:
        ValueError: If a group has one response or several prompts, or the trainer's reward is
            another than the credit's.
        RuntimeError: If the reward cannot be had.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, one in enumerate(written):
        groups.setdefault(one.group, []).append(index)
    sizes: dict[int, list[list[int]]] = {}
    for name, members in groups.items():
        if len(members) < 2:
            raise ValueError(
                f"group {name!r} has one response, and credit compares the responses to a prompt; "
                "let the trainer sample two or more to each prompt"
            )
        if any(written[index].prompt != written[members[0]].prompt for index in members):
            raise ValueError(
                f"group {name!r} has responses to different prompts; responses are compared within "
                "a group, so give those to one prompt one group"
            )
        sizes.setdefault(len(members), []).append(members)
    found: dict[int, Earned] = {}
    for chosen in sizes.values():
        found |= _of_one_size(credit, written, chosen, tokenizer, step=step, offset=offset)
        offset += len(chosen)
    return [found[index] for index in range(len(written))]


def _of_one_size(
    credit: Credit,
    written: Sequence[Written],
    groups: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    *,
    step: int,
    offset: int,
) -> dict[int, Earned]:
    order = [index for members in groups for index in members]
    firsts = [written[members[0]] for members in groups]
    ids, mask = padded([written[index].ids for index in order], len(groups[0]))
    done = credit.of_tokens(
        [first.prompt for first in firsts],
        ids,
        mask,
        tokenizer,
        opened=[
            opened_thought(text)
            for text in decoded(tokenizer, [first.prompt_ids for first in firsts])
        ],
        step=step,
        offset=offset,
        numbers=_numbers([written[index] for index in order], len(groups[0])),
    )
    rewards = done.rewards.flatten().tolist()
    texts = [text for group in done.responses.texts for text in group]
    for index, reward, text in zip(order, rewards, texts, strict=True):
        _check_reward(written[index].reward, reward, text)
    rows = done.advantages.flatten(0, 1)
    return {
        index: Earned(advantages=row[: len(written[index].ids)], reward=reward)
        for index, row, reward in zip(order, rows, rewards, strict=True)
    }


def _numbers(written: Sequence[Written], size: int) -> Int[Tensor, "P G"] | None:
    given = [one.number for one in written if one.number is not None]
    return torch.tensor(given).view(-1, size) if given else None


def _check_reward(theirs: float | None, ours: float, text: str) -> None:
    if theirs is None or abs(theirs - ours) <= _CLOSE * max(1.0, abs(ours)):
        return
    raise ValueError(
        f"the trainer says that {text[:60]!r} earned {theirs:g}, and the reward of the credit says "
        f"{ours:g}: the credit would be that of another reward than the one in the logs; score "
        "with one function, on one text, in both"
    )
