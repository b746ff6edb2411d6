"""What the person sees: a header, a line per step, the table at the end, examples, paths.

Every text is printed as it stands: no markup, no emoji codes, no terminal codes of a policy or a
catalogue are interpreted.
"""

import io
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.evaluation.figures import compare, truth_rho
from rlcredit.evaluation.lines import (
    PLAIN_WIDTH,
    columns,
    counts_line,
    credited,
    foreign,
    legend,
    seconds,
    step_line,
    with_interval,
)
from rlcredit.evaluation.names import data_name, retriever_name
from rlcredit.run.results import results_table
from rlcredit.run.stream import appended, best_effort
from rlcredit.tasks.base import Task
from rlcredit.types import Needs

FULL_WIDTH = 100
"""Columns that the table at the end needs to write figures in full."""
TYPICAL_SEGMENTS = 8
"""Segments of a response that the header reckons with, before any is written."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is said before a run starts."""

    task: Task
    policy: str
    """The policy's own description."""
    prompt: str
    """A training prompt as the model reads it."""
    method: str
    """Estimator and loss, by name."""
    reward: Sequence[tuple[str, str]]
    """Name and text of what is said of the reward."""
    steps: int
    prompts_per_step: int
    group_size: int
    max_new_tokens: int
    needs: Needs
    folder: Path
    caveat: str = ""
    """Why the run's numbers are no evidence; empty where they may be."""


def evaluations_per_response(needs: Needs, num_segments: int) -> int:
    """Rewards asked for with a response of so many segments: its own, parts', continuations'."""
    continued = needs.continuations * (num_segments - 1)  # the siblings continue the prompt
    if needs.coalitions is None:
        return 1 + continued
    members = needs.coalitions(num_segments, torch.Generator())
    return members.shape[0] - 1 + continued  # the empty coalition is worth 0, without a reward


def plain_console(**settings: Any) -> Console:
    """A console that prints every text as it stands, to its file in a notebook too."""
    return Console(markup=False, emoji=False, highlight=False, force_jupyter=False, **settings)


class RunConsole:
    """Prints one run. On a terminal with a moving bar, elsewhere in plain lines.

    Nobody need read it: where it cannot be written, the run goes on.
    """

    def __init__(
        self, console: Console | None = None, *, plain_every: int = 10, brief: bool = False
    ) -> None:
        """Print to a console; None: to the standard output.

        Args:
            console: Where to print.
            plain_every: Without a terminal, steps between two lines about steps.
            brief: Print warnings and announcements alone; the kept file has everything.
        """
        self.console = console or plain_console(file=best_effort(sys.stdout))
        self.brief = brief
        if not self.console.is_terminal:
            self.console.width = PLAIN_WIDTH
        self.plain_every = plain_every
        self._said = io.StringIO()
        self._log = plain_console(
            file=self._said, width=PLAIN_WIDTH, force_terminal=False, color_system=None
        )
        self._started = time.monotonic()

    def keep(self, path: Path) -> None:
        """Write to the end of a file, in plain text, all that was said so far and will be."""
        try:
            path.touch()
        except OSError as error:
            self.warn(f"{path} cannot be written ({error.strerror}): what is said here is not kept")
            return
        self._log.file = appended(path)
        self._log.file.write(self._said.getvalue())

    @property
    def _consoles(self) -> tuple[Console, ...]:
        return (self._log,) if self.brief else (self.console, self._log)

    def say(self, text: str) -> None:
        """A sentence."""
        self._print(Text(text), soft_wrap=True)

    def announce(self, text: str) -> None:
        """A sentence that is printed by a brief console too."""
        self._everywhere(Text(text))

    def warn(self, text: str) -> None:
        """A sentence that should not be missed."""
        self._everywhere(Text(f"warning: {text}", style="yellow"))

    def _everywhere(self, text: Text) -> None:
        for console in (self.console, self._log):
            console.print(text, soft_wrap=True)

    def _print(self, what: RenderableType, *, soft_wrap: bool = False) -> None:
        for console in self._consoles:
            console.print(what, soft_wrap=soft_wrap)

    def header(self, header: Header) -> None:
        """Data, policy, method, and the numbers that follow from the settings."""
        task = header.task
        responses = header.prompts_per_step * header.group_size
        calls = evaluations_per_response(header.needs, TYPICAL_SEGMENTS)
        of_segments = "" if calls == 1 else f" (for {TYPICAL_SEGMENTS} segments)"
        splits = (("train", task.train), ("validation", task.validation), ("test", task.test))
        rows = [
            ("data", f"{task.source} ({task.name}, {task.digest[:12]})"),
            ("", counts_line(task.counts)),
            ("prompts", ", ".join(f"{len(prompts):,} {name}" for name, prompts in splits)),
            ("policy", header.policy),
            ("prompt as read", header.prompt.replace("\n", r"\n")),
            ("method", header.method),
            *header.reward,
            (
                "per step",
                f"{header.prompts_per_step} prompts x {header.group_size} = {responses} responses, "
                f"at most {responses * header.max_new_tokens:,} tokens",
            ),
            ("per response", f"up to {calls} reward evaluations{of_segments}"),
            ("steps", f"{header.steps:,}, {header.steps * responses:,} responses in all"),
            ("folder", str(header.folder)),
        ]
        title = f"rlcredit: {data_name(task.name)}, data: {task.source}"
        if header.caveat:
            title += f" ({header.caveat})"
        shown = Table.grid(padding=(0, 2, 0, 0))
        shown.add_column(no_wrap=True)
        shown.add_column(overflow="fold")
        for name, value in rows:
            if value:
                shown.add_row(Text(name), Text(foreign(value)))
        self._print(Panel(shown, title=Text(title), title_align="left", box=box.ROUNDED))

    @contextmanager
    def progress(self, *, steps: int, done: int = 0) -> Iterator["StepLines"]:
        """A bar with the time left, as long as the steps last; ``done`` were made before."""
        if self.brief or not self.console.is_terminal:
            yield StepLines(self, steps=steps, done=done, bar=None)
            return
        bar = Progress(
            TextColumn("training", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        with bar:
            yield StepLines(self, steps=steps, done=done, bar=bar)

    def results(
        self,
        before: Evaluation,
        after: Evaluation,
        *,
        task: Task,
        trained_on: str,
        temperature: float,
    ) -> None:
        """The table: before -> after, paired, with intervals; and the check of credit."""
        marked = f"{retriever_name(trained_on)}* trained on, " if trained_on else ""
        title = (
            f"{data_name(task.name)} (data: {task.source}), {after.split}: "
            f"{len(after.prompt_ids)} prompts, {marked}sampled at T = {temperature:g}\n"
            f"means with 95 % intervals over {_unit(after)}; differences are paired"
        )
        rows = [row for row in compare(before, after) if not row.cell.is_minor]
        for console in self._consoles:
            short = console.width < FULL_WIDTH
            console.print(results_table(rows, title=title, trained_on=trained_on, short=short))
        for name, now in after.figures.items():
            self.say(f"{name}: {before.figures.get(name, math.nan):.4g} -> {now:.4g}")
        for evaluation in (before, after):
            rho = truth_rho(evaluation)
            if rho is not None and evaluation.credit is not None:
                self.say(
                    f"credit and truth, {evaluation.phase} training: rank correlation "
                    f"{with_interval(rho, sign=True)} over {len(evaluation.credit.rho)} prompts "
                    f"({evaluation.credit.counted} responses, {evaluation.credit.skipped} without "
                    "contrast)"
                )

    def examples(self, before: Evaluation, after: Evaluation) -> None:
        """Responses to the same prompts before and after, with the credit of their segments."""
        for old, new in zip(before.examples, after.examples, strict=True):
            self._print(Text(f"prompt  {foreign(new.prompt)}", style="bold"))
            for phase, completion in (("before", old), ("after", new)):
                line = Text(f"{phase:<6}  {completion.reward:.3f}  ")
                self._print(line.append_text(credited(completion)), soft_wrap=True)

    def paths(self, paths: Mapping[str, Path], *, then: str) -> None:
        """Where everything lies, how long it took, and the command that shows it."""
        rows = [(name, str(path)) for name, path in paths.items()]
        rows.append(("took", seconds(time.monotonic() - self._started)))
        rows.append(("next", then))
        for line in columns(rows):
            self._print(Text(line), soft_wrap=True)


def _unit(evaluation: Evaluation) -> str:
    """What could have come out otherwise: prompts, or the intents that several of them reword."""
    intents = len(set(evaluation.families))
    if intents < len(evaluation.families):
        return f"the {intents} intents that the prompts reword"
    return "prompts"


class StepLines:
    """One line per step; on a terminal above the bar, elsewhere every few steps."""

    def __init__(self, console: RunConsole, *, steps: int, done: int, bar: Progress | None) -> None:
        self._console = console
        self._steps = steps
        self._first = done
        self._bar = bar
        self._task = bar.add_task("", total=steps, completed=done) if bar else None
        self._started = time.monotonic()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show a finished step."""
        if step == self._first + 1:
            self._console.say(legend(metrics))
        line = step_line(step, self._steps, metrics, width=self._console.console.width)
        if self._bar is not None and self._task is not None:
            self._console.say(line)
            self._bar.update(self._task, completed=step)
            return
        if step in (self._first + 1, self._steps) or step % self._console.plain_every == 0:
            per_step = (time.monotonic() - self._started) / (step - self._first)
            left = seconds(per_step * (self._steps - step))
            self._console.say(f"{line}  {per_step:.2f} s per step, {left} left")
