"""Weights & Biases mirrors the record. The only file that imports wandb."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import wandb
import wandb.errors

from rlcredit.tracking.base import CreditedText, RunInfo

STEP = "step"


@dataclass(frozen=True, kw_only=True)
class WandB:
    """Mirrors each run to W&B: online where a key is configured, offline otherwise.

    The run keeps its id across resumes. W&B cannot take back a step: what a resumed run repeats
    after its checkpoint is dropped there, while ``metrics.jsonl`` holds the repetition.
    """

    project: str = "rlcredit"
    entity: str | None = None
    """User or team; None: the key's default."""
    init_timeout_s: float = 30.0
    """A server that has not answered by then is not waited for: the run goes on offline."""
    finish_timeout_s: float = 60.0
    """Longest wait for the upload at the end; what is missing stays on disk."""

    def __post_init__(self) -> None:
        """Refuse waiting times that are none."""
        for name in ("init_timeout_s", "finish_timeout_s"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"tracker.{name}={getattr(self, name)}: it must be a positive number of "
                    "seconds; tracker=jsonl switches W&B off"
                )

    def start(
        self, run: RunInfo, *, last_step: int | None, say: Callable[[str], None]
    ) -> "WandBRun":
        """Open the run online or offline; says which, and how to sync."""
        folder = run.folder.resolve() / "wandb"
        command = f"wandb sync {folder}"
        online, why = _key_configured()
        if online:
            try:
                opened = self._init(run, offline=False)
                say(f"W&B: {opened.url}")
                return WandBRun(opened, command=f"wandb sync --include-online {folder}", say=say)
            except wandb.errors.Error as error:
                why = f"the server did not take the run ({_first_line(error)})"
                wandb.teardown()
        say(f"W&B is offline: {why}. Sync later with: {command} (tracker=jsonl switches it off)")
        return WandBRun(self._init(run, offline=True), command=command, say=say)

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
    """An open W&B run. If it breaks, that is said once, and the run goes on without it."""

    def __init__(self, run: wandb.Run, *, command: str, say: Callable[[str], None]) -> None:
        self.run = run
        self._command = command
        self._say = say
        self._step = 0
        self._broken = False

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Mirror one step's metrics, with the step as their axis."""
        self._step = step
        self._mirror(lambda: self.run.log({STEP: step, **metrics}, step=step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Show a table, and beside it a page on which texts are coloured by credit.

        The page is a file of its own: HTML inside a table would lie outside the run folder.
        """
        data: list[Any] = [[_cell(value) for value in row] for row in rows]
        shown: dict[str, Any] = {name: wandb.Table(columns=list(columns), data=data)}
        if any(isinstance(value, CreditedText) for row in rows for value in row):
            shown[f"{name}_by_credit"] = wandb.Html(page_html(columns, rows), inject=False)
        self._mirror(lambda: self.run.log(shown, step=self._step))

    def sync(self) -> None:
        """Nothing: the mirror may lag behind the record."""

    def finish(self, summary: Mapping[str, float], *, failed: bool) -> None:
        """Close the run; waits for the upload no longer than ``finish_timeout_s``."""
        self._mirror(lambda: self.run.summary.update(dict(summary)))
        self._mirror(lambda: self.run.finish(exit_code=1 if failed else 0))

    def _mirror(self, act: Callable[[], object]) -> None:
        """Whatever fails inside a mirror must not end the run, whose record is kept elsewhere."""
        if self._broken:
            return
        try:
            act()
        except Exception as error:
            self._broken = True
            self._say(
                f"W&B stopped taking data ({_first_line(error)}); the run is not affected. Sync "
                f"the rest with: {self._command}"
            )


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


def _cell(value: object) -> object:
    if not isinstance(value, CreditedText):
        return value
    return "".join(
        piece if credit is None else f"{piece} ({credit:+.3f})" for piece, credit in value.pieces
    )


def _key_configured() -> tuple[bool, str]:
    """Whether W&B has a key (environment, netrc, settings), without asking the server; why not."""
    mode = wandb.setup(wandb.Settings(silent=True)).settings.mode
    if mode != "online":
        return False, f"WANDB_MODE={mode}"
    try:
        return wandb.login(prompt=False, verify=False), "no key is configured (wandb login)"
    except wandb.errors.Error as error:
        return False, f"the key cannot be used ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
