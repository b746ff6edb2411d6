"""The records of all processes as one, the same as if a single process had made them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from rlcredit.distributed.world import Payload, World
from rlcredit.types import Counts, Prompt, Rollouts, Signals

LEFT_PADDED = frozenset({"rollouts.prompt_ids", "rollouts.prompt_mask"})
OUTSIDE = frozenset({"signals.segments.ids", "signals.candidates.candidate_ids"})
"""Fields in which -1 stands for no segment or candidate."""

R = TypeVar("R")


def gather_records(
    world: World, rollouts: Rollouts, signals: Signals, prompts: Sequence[Prompt], *, filler: int
) -> tuple[Rollouts, Signals]:
    """What all processes sampled and scored, in the order of the prompts.

    Args:
        world: The processes of the run.
        rollouts: What this process sampled for its share of the prompts.
        signals: What it scored in them.
        prompts: All of them.
        filler: Token that fills up rows.

    Raises:
        RankError: If a process is dead, or does not come in time.
    """
    if world.size == 1:
        return rollouts, signals
    own = tensors_of(rollouts, "rollouts") | tensors_of(signals, "signals")
    payloads = world.gather(
        Payload(
            tensors=own,
            notes={
                "texts": rollouts.texts,
                "evaluations": signals.num_evaluations,
                "extra_tokens": signals.num_extra_tokens,
                "counts": None if signals.counts is None else vars(signals.counts),
            },
        )
    )
    device = rollouts.response_ids.device
    whole = {
        name: joined([payload.tensors[name] for payload in payloads], name, filler).to(device)
        for name in own
    }
    texts: list[Any] = [group for payload in payloads for group in _list(payload, "texts")]
    evaluations: list[Any] = [payload.notes["evaluations"] for payload in payloads]
    extra_tokens: list[Any] = [payload.notes["extra_tokens"] for payload in payloads]
    counted: list[Any] = [payload.notes["counts"] for payload in payloads]
    counts = [Counts(**each) for each in counted if each is not None]
    return (
        replace(
            with_tensors(rollouts, "rollouts", whole),
            prompts=tuple(prompts),
            texts=tuple(tuple(group) for group in texts),
        ),
        replace(
            with_tensors(signals, "signals", whole),
            num_evaluations=sum(evaluations),
            num_extra_tokens=sum(extra_tokens),
            counts=None if signals.counts is None else sum(counts, Counts()),
        ),
    )


def rows_of_prompts(record: R, part: slice) -> R:
    """The share of a record that belongs to some of its prompts."""
    if not is_dataclass(record) or isinstance(record, type):
        raise TypeError(f"{type(record).__name__} is no record")
    cut: dict[str, Any] = {
        f.name: value[part]
        for f in fields(record)
        if isinstance(value := getattr(record, f.name), Tensor | tuple)
    }
    return replace(record, **cut)


def with_rows(record: R, others: R, rows: Sequence[int], name: str, *, filler: int) -> R:
    """A record with the prompts of another in the place of some of its own.

    Args:
        record: Of some prompts.
        others: Of as many prompts as there are rows.
        rows: Places of the prompts that go.
        name: ``rollouts`` or ``signals``, by which padding is known.
        filler: Token that fills up rows.
    """
    if not is_dataclass(record) or isinstance(record, type):
        raise TypeError(f"{type(record).__name__} is no record")
    mine, theirs = tensors_of(record, name), tensors_of(others, name)
    order = torch.arange(len(next(iter(mine.values()))))
    order[list(rows)] = len(order) + torch.arange(len(rows))
    whole = {
        place: joined([own, theirs[place]], place, filler)[order].to(own.device)
        for place, own in mine.items()
    }
    lists: dict[str, Any] = {
        f.name: tuple((*value, *getattr(others, f.name))[n] for n in order.tolist())
        for f in fields(record)
        if isinstance(value := getattr(record, f.name), tuple)
    }
    return replace(with_tensors(record, name, whole), **lists)


def tensors_of(record: object, name: str) -> dict[str, Tensor]:
    """Every tensor in a record and in the records that it holds, by dotted name."""
    if isinstance(record, Tensor):
        return {name: record}
    if not is_dataclass(record):
        return {}
    found: dict[str, Tensor] = {}
    for f in fields(record):
        found |= tensors_of(getattr(record, f.name), f"{name}.{f.name}")
    return found


def with_tensors(record: R, name: str, tensors: Mapping[str, Tensor]) -> R:
    """The record with other tensors in the places of its own: the inverse of :func:`tensors_of`."""
    assert is_dataclass(record)
    assert not isinstance(record, type)
    changed: dict[str, Any] = {}
    for f in fields(record):
        value, place = getattr(record, f.name), f"{name}.{f.name}"
        if isinstance(value, Tensor):
            changed[f.name] = tensors[place]
        elif is_dataclass(value) and tensors_of(value, place):
            changed[f.name] = with_tensors(value, place, tensors)
    return replace(record, **changed)


def joined(parts: Sequence[Tensor], name: str, filler: int) -> Tensor:
    """Parts one after another, as wide as the widest: padded where their owner pads them."""
    shape = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    empty: float = 0
    if name.endswith(("prompt_ids", "response_ids")):
        empty = filler
    elif name in OUTSIDE:
        empty = -1
    rows = sum(len(part) for part in parts)
    whole = torch.full((rows, *shape), empty, dtype=parts[0].dtype)
    start = 0
    for part in parts:
        cells = [slice(start, start + len(part)), *(slice(size) for size in part.shape[1:])]
        if name in LEFT_PADDED:
            cells[1] = slice(shape[0] - part.shape[1], None)
        whole[tuple(cells)] = part
        start += len(part)
    return whole


def _list(payload: Payload, name: str) -> list[Any]:
    value = payload.notes[name]
    assert isinstance(value, list)
    return value
