"""Weights & Biases mirrors the record. The only file that imports wandb."""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import wandb
import wandb.errors

from rlcredit.tracking.base import CreditedText, RunInfo, plain_cell

STEP = "step"


@dataclass(frozen=True, kw_only=True)
class WandB:
    """Mirrors each run to W&B: online where a key is configured, offline otherwise.

    The run keeps its id across resumes. W&B cannot take back a step: what a resumed run repeats
    after its checkpoint is dropped there, while ``metrics.jsonl`` holds the repetition.
    """

    project: str = "rlcredit"
    """Project that the run is shown in."""
    entity: str | None = None
    """User or team; None: the key's default."""
    init_timeout_s: float = 30.0
    """A server that has not answered by then is not waited for: the run goes on offline."""
    finish_timeout_s: float = 60.0
    """Longest wait for the upload at the end; what is missing stays on disk."""

    def __post_init__(self) -> None:
        """Refuse waiting times that are none, and names that W&B refuses."""
        for name in ("init_timeout_s", "finish_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"tracker.wandb.{name}={getattr(self, name)}: it must be a positive number of "
                    "seconds; tracker=jsonl switches W&B off"
                )
        try:
            wandb.Settings(project=self.project, entity=self.entity)
        except wandb.errors.UsageError as error:
            raise ValueError(
                f"tracker.wandb.project={self.project}: {error}; choose another name, or "
                "tracker=jsonl, which switches W&B off"
            ) from error

    def start(
        self, run: RunInfo, *, last_step: int | None, say: Callable[[str], None]
    ) -> "WandBRun | None":
        """Open the run online or offline; says which, and how to sync. None with mode disabled.

        Raises:
            ValueError: If a variable WANDB_* or a settings file holds what W&B refuses.
            Exception: Whatever W&B raises where it cannot write.
        """
        mode = _mode()
        if mode == "disabled":
            say("W&B is off (WANDB_MODE=disabled)")
            return None
        folder = run.folder.resolve() / "wandb"
        command = shlex.join(["wandb", "sync", str(folder)])
        online, why = _key_configured() if mode == "online" else (False, f"WANDB_MODE={mode}")
        if online:
            try:
                opened = self._init(run, offline=False)
                say(f"W&B: {opened.url}")
                online_too = shlex.join(["wandb", "sync", "--include-online", str(folder)])
                return WandBRun(opened, command=online_too)
            except wandb.errors.Error as error:
                why = f"the server did not take the run ({_first_line(error)})"
                wandb.teardown()
        say(f"W&B is offline: {why}. Sync later with: {command} (tracker=jsonl switches it off)")
        return WandBRun(self._init(run, offline=True), command=command)

    def _init(self, run: RunInfo, *, offline: bool) -> wandb.Run:
        wandb.setup(wandb.Settings(silent=True))
        opened = wandb.init(
            project=self.project,
            entity=self.entity,
            id=run.run_id,
            name=run.name,
            group=run.group,
            tags=list(run.tags),
            config=dict(run.config),
            mode="offline" if offline else "online",
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                root_dir=str(run.folder),
                init_timeout=self.init_timeout_s,
                finish_timeout=self.finish_timeout_s,
                finish_timeout_raises=True,
            ),
        )
        opened.define_metric(STEP)
        opened.define_metric("*", step_metric=STEP)
        return opened


class WandBRun:
    """An open W&B run. What W&B cannot take raises RuntimeError, with how to sync the rest."""

    def __init__(self, run: wandb.Run, *, command: str) -> None:
        self.run = run
        self._command = command
        self._step = 0

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Mirror one step's metrics, with the step as their axis."""
        self._step = step
        with self._taken():
            self.run.log({STEP: step, **metrics}, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table, and beside it a page on which texts are coloured by credit.

        The page is a file of its own: HTML inside a table would lie outside the run folder.
        """
        data: list[Any] = [[plain_cell(value) for value in row] for row in rows]
        with self._taken():
            shown: dict[str, Any] = {name: wandb.Table(columns=list(columns), data=data)}
            if any(isinstance(value, CreditedText) for row in rows for value in row):
                page = page_html(columns, rows)
                shown[f"{name}_by_credit"] = wandb.Html(page, inject=False)
            self.run.log(shown, step=self._step)

    def sync(self) -> None:
        """Nothing: the mirror may lag behind the record."""

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Close the run; waits for the upload no longer than ``finish_timeout_s``."""
        with self._taken():
            self.run.summary.update(dict(summary))
            self.run.finish(exit_code=1 if failed else 0)

    @contextmanager
    def _taken(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise RuntimeError(
                f"W&B refuses it ({_first_line(error)}). Sync the rest with: {self._command}"
            ) from error


def page_html(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The table as a page: positive credit on green, negative on red, figures on hovering."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell_html(value)}</td>" for value in row) + "</tr>" for row in rows
    )
    style = "td{border:1px solid #ccc;padding:4px;white-space:pre-wrap}"
    return f"<meta charset='utf-8'><style>{style}</style><table><tr>{head}</tr>{body}</table>"


def _cell_html(value: object) -> str:
    if not isinstance(value, CreditedText):
        return escape(str(value))
    largest = max((abs(credit) for _, credit in value.pieces if credit is not None), default=0.0)
    return "".join(_span(piece, credit, largest or 1.0) for piece, credit in value.pieces)


def _span(piece: str, credit: float | None, largest: float) -> str:
    if credit is None:
        return escape(piece)
    red_green_blue = "46,160,67" if credit >= 0 else "218,54,51"
    ground = f"rgba({red_green_blue},{abs(credit) / largest:.2f})"
    return f"<span title='{credit:+.4f}' style='background:{ground}'>{escape(piece)}</span>"


def _mode() -> str:
    """The mode that environment and settings files ask for.

    Raises:
        ValueError: If they hold what W&B refuses.
    """
    try:
        return wandb.setup(wandb.Settings(silent=True)).settings.mode
    except (ValueError, wandb.errors.Error) as error:
        raise ValueError(
            f"{error}. Correct or unset the variable WANDB_* (or the line of a W&B settings file) "
            "that says so"
        ) from error


def _key_configured() -> tuple[bool, str]:
    """Whether W&B has a key (environment, netrc, settings), without asking the server; why not."""
    try:
        return wandb.login(prompt=False, verify=False), "no key is configured (wandb login)"
    except wandb.errors.Error as error:
        return False, f"the key cannot be used ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
