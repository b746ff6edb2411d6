"""One training prompt over the steps at which a run met it, read from ``completions.jsonl``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from rlcredit.run.responses import COMPLETIONS_FILE
from rlcredit.scoring.samples import Completion, SegmentCredit
from rlcredit.tracking.lines import read_lines

MOST_STEPS = 12
"""Steps that are shown of a prompt, the first and the last among them."""


@dataclass(frozen=True, kw_only=True)
class StepView:
    """What the policy wrote at one step: the response nearest to the group's mean reward."""

    step: int
    mean: float
    """Reward of the group."""
    reward: float
    response: str
    segments: tuple[SegmentCredit, ...]
    """With the credit that trained the policy."""


@dataclass(frozen=True, kw_only=True)
class PromptSteps:
    """A prompt that training came back to."""

    text: str
    steps: tuple[StepView, ...]


@dataclass(frozen=True, kw_only=True)
class _Line(Completion):
    """A line of the file."""

    step: int


def prompt_steps(run: Path, *, num_prompts: int) -> list[PromptSteps]:
    """The prompts that a run met most often, at two steps or more; none where no file is kept.

    Raises:
        ValueError: If a line of the file is none that a run writes.
    """
    path = run / COMPLETIONS_FILE
    if num_prompts == 0 or not path.exists():
        return []
    prompts: dict[str, dict[int, list[_Line]]] = {}
    for line in msgspec.convert(read_lines(path), list[_Line]):
        prompts.setdefault(line.prompt_id, {}).setdefault(line.step, []).append(line)
    often = sorted((each for each in prompts.values() if len(each) > 1), key=len, reverse=True)
    return [_over_steps(each) for each in often[:num_prompts]]


def _over_steps(groups: Mapping[int, Sequence[_Line]]) -> PromptSteps:
    steps = sorted(groups)
    last = len(steps) - 1
    chosen = sorted({round(k * last / (MOST_STEPS - 1)) for k in range(MOST_STEPS)})
    views = tuple(_view(steps[k], groups[steps[k]]) for k in chosen)
    return PromptSteps(text=groups[steps[0]][0].prompt, steps=views)


def _view(step: int, group: Sequence[_Line]) -> StepView:
    mean = sum(line.reward for line in group) / len(group)
    typical = min(group, key=lambda line: abs(line.reward - mean))
    return StepView(
        step=step,
        mean=mean,
        reward=typical.reward,
        response=typical.response,
        segments=typical.segments,
    )
