"""What the page's script reads: responses with their credit, as JSON that a page can hold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from textwrap import shorten
from typing import Any

from rlcredit.evaluation.names import method_name
from rlcredit.report.steps import PromptSteps
from rlcredit.report.views import Hit, PromptView, ResponseView, SegmentView

TITLE_LENGTH = 100
"""Characters of a document that are shown."""
DIGITS = 6
"""Of a number behind the point; the page shows three."""
READABLE = 120
"""Tokens of a response that is taken for an example, if there is a shorter one."""


@dataclass(frozen=True, kw_only=True)
class ShownRun:
    """Responses of one run, before or after training."""

    label: str
    prompts: Sequence[PromptView]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """All that the credit explorer shows."""

    runs: Sequence[ShownRun]
    """The explored run first; those beside it wrote to the same prompts."""
    part: str = "segment"
    """What the parts of a response are called."""
    own: str = ""
    """The method that the explored run was trained with."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Document id -> its text."""
    steps: Sequence[PromptSteps] = ()
    """Prompts that training came back to, by the explored run."""

    def data(self) -> dict[str, Any]:
        """Plain values; documents are numbered, and a hit is a number with its grade."""
        views = [view for run in self.runs for view in run.prompts]
        ids = sorted({hit.document_id for view in views for hit in _hits(view)})
        numbers = {document: number for number, document in enumerate(ids)}
        first = self.runs[0].prompts
        methods = first[0].responses[0].methods
        return {
            "part": self.part,
            "own": self.own,
            "methods": [{"name": name, "label": method_name(name)} for name in methods],
            "documents": [_title(self.titles.get(each, each)) for each in ids],
            "runs": [
                {"label": run.label, "prompts": [_compact(asdict(v), numbers) for v in run.prompts]}
                for run in self.runs
            ],
            "start": list(striking(first)),
            "steps": [_compact(asdict(each), numbers) for each in self.steps],
        }


def alike(runs: Sequence[ShownRun]) -> list[ShownRun]:
    """The runs on the first prompts that all of them answered."""
    count = min(len(run.prompts) for run in runs)
    return [replace(run, prompts=run.prompts[:count]) for run in runs]


def striking(prompts: Sequence[PromptView]) -> tuple[int, int, int]:
    """Prompt, response and part with which the explorer opens.

    The response whose parts' marginal rewards differ most, and its most valuable part; responses
    of groups with equal rewards have no credit to show, and long ones are hard to read.
    """
    best, place = -1.0, (0, 0, 0)
    for p, prompt in enumerate(prompts):
        if len({response.reward for response in prompt.responses}) < 2:
            continue
        for g, response in enumerate(prompt.responses):
            marginal = {k: response.reward - s.without for k, s in _players(response)}
            if len(marginal) < 2:
                continue
            contrast = max(marginal.values()) - min(marginal.values())
            if len(response.tokens) > READABLE:
                contrast /= len(response.tokens)
            if contrast > best:
                best, place = contrast, (p, g, max(marginal, key=lambda k: marginal[k]))
    return place


def _title(text: str) -> str:
    """The beginning of a document, in whole words where it has any."""
    return shorten(text, TITLE_LENGTH, placeholder=" …") if " " in text else text[:TITLE_LENGTH]


def _players(response: ResponseView) -> list[tuple[int, SegmentView]]:
    return [(k, segment) for k, segment in enumerate(response.segments) if segment.counts]


def _hits(view: PromptView) -> Iterator[Hit]:
    for response in view.responses:
        yield from response.found
        for segment in response.segments:
            yield from segment.found_without


def _compact(value: Any, numbers: Mapping[str, int]) -> Any:
    """The same with rounded numbers, and hits as ``[number of the document, grade]``."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        if "document_id" in value:
            return [numbers[value["document_id"]], value["grade"]]
        return {key: _compact(inner, numbers) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_compact(inner, numbers) for inner in value]
    return value
