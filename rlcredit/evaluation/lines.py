"""How figures and foreign text are written on a console."""

import re
from collections.abc import Mapping, Sequence

from rich.text import Text

from rlcredit.evaluation.stats import Interval
from rlcredit.scoring.samples import Completion

PLAIN_WIDTH = 118
"""Columns where the output is no terminal."""
SHOWN: tuple[tuple[str, str, str, str], ...] = (
    ("reward", "reward/mean", ".3f", "mean of the batch"),
    ("tokens", "response/length_tokens", ".1f", "per response"),
    ("cut", "response/truncated_share", ".0%", "share of responses that the length limit cut off"),
    ("segments", "segments/per_response", ".1f", "per response"),
    ("valid", "segments/valid_share", ".0%", "share of segments that count"),
    ("entropy", "train/entropy_nats", ".2f", "nats per token"),
)
"""Label, metric, format and meaning of what the line of a step shows, the first ones first."""


def foreign(text: str) -> str:
    """A policy's or a catalogue's text on one line, without characters that steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def seconds(duration: float) -> str:
    """``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    whole = round(duration)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def with_interval(
    figure: Interval, *, form: str = ".3f", sign: bool = False, short: bool = False
) -> str:
    """``0.412 [0.391, 0.433]``; with ``sign`` ``+0.217 [+0.195, +0.240]``.

    ``form`` is how a number is written; ``short`` leaves out the zeros in front:
    ``.412 [.391 .433]``.
    """
    form = f"+{form}" if sign else form
    if figure.low is None or figure.high is None:
        text = format(figure.mean, form)
    else:
        text = f"{figure.mean:{form}} [{figure.low:{form}}, {figure.high:{form}}]"
    return re.sub(r"\b0\.", ".", text).replace(",", "") if short else text


def step_line(step: int, steps: int, metrics: Mapping[str, float], *, width: int) -> str:
    """One line about a step: those of ``SHOWN`` that there are and that fit into the columns."""
    line = f"step {step:>{len(str(steps))}}/{steps}"
    for label, name, form, _ in SHOWN:
        if name in metrics:
            longer = f"{line}  {label} {metrics[name]:{form}}"
            if len(longer) > width:
                break
            line = longer
    return line


def legend(metrics: Mapping[str, float]) -> str:
    """What the words in the line of a step mean."""
    return "; ".join(f"{label}: {means}" for label, name, _, means in SHOWN if name in metrics)


def credited(completion: Completion) -> Text:
    """A response with each segment's credit; segments that do not count are struck out."""
    if not any(segment.credit is not None for segment in completion.segments):
        return Text(foreign(completion.response))
    line = Text()
    for segment in completion.segments:
        if line:
            line.append(", ")
        line.append(foreign(segment.text), style="" if segment.counts else "strike dim")
        if segment.credit is not None:
            style = "green" if segment.credit > 0 else "red" if segment.credit < 0 else "dim"
            line.append(f" {segment.credit:+.3f}", style=style)
    return line


def counts_line(counts: Mapping[str, int]) -> str:
    """``1,920 products, 736 queries``."""
    return ", ".join(f"{number:,} {what}" for what, number in counts.items())


def columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Names and values, the values below each other."""
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows]
