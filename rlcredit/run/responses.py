"""Responses on disk (``completions.jsonl``) and in trackers, with their credit."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rlcredit.scoring.samples import Completion
from rlcredit.tracking.base import CreditedText
from rlcredit.tracking.lines import LineFile
from rlcredit.types import Advantages, Rollouts

COMPLETIONS_FILE = "completions.jsonl"
COLUMNS = ("step", "prompt", "response", "reward")


class CompletionsFile:
    """``completions.jsonl``: one response a line, with its reward and its segments' credit."""

    def __init__(self, run: Path, *, last_step: int | None) -> None:
        """Open the file; what lies beyond ``last_step`` is removed (None: everything)."""
        self._lines = LineFile(run / COMPLETIONS_FILE, last_step=last_step)

    def write(self, step: int, written: Sequence[Completion]) -> None:
        """Add the responses of a step."""
        self._lines.append([{"step": step, **asdict(completion)} for completion in written])

    def sync(self) -> None:
        """Wait until the disk holds every line; called before a checkpoint."""
        self._lines.sync()


def credited_text(rollouts: Rollouts, advantages: Advantages, p: int, g: int) -> CreditedText:
    """A response cut at its tokens, each with its raw credit, or its advantage where there is none.

    Tokens that share a character (bytes of one) are one piece, with the first one's credit. A
    response whose tokens' characters nobody looked for has one credit, and is one piece.
    """
    text = rollouts.texts[p][g]
    values = advantages.values if advantages.credit is None else advantages.credit
    if rollouts.char_spans is None:
        return CreditedText(pieces=((text, float(values[p, g, 0])),))
    pieces: list[tuple[str, float | None]] = []
    end = 0
    rows = zip(rollouts.spans[p, g].tolist(), values[p, g].tolist(), strict=True)
    for (start, stop), credit in rows:
        if stop <= end:
            continue
        if start > end:
            pieces.append((text[end:start], None))
        pieces.append((text[max(start, end) : stop], credit))
        end = stop
    if end < len(text):
        pieces.append((text[end:], None))
    return CreditedText(pieces=tuple(pieces))


def response_rows(
    step: int, rollouts: Rollouts, rewards: Sequence[Sequence[float]], advantages: Advantages
) -> list[list[object]]:
    """Rows of the responses table, in the order of ``COLUMNS``: one per response.

    Args:
        step: At which they were sampled.
        rollouts: P x G responses.
        rewards: [P][G].
        advantages: Of the same responses.
    """
    return [
        [step, prompt.text, credited_text(rollouts, advantages, p, g), rewards[p][g]]
        for p, prompt in enumerate(rollouts.prompts)
        for g in range(len(rollouts.texts[p]))
    ]
