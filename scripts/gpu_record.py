"""What a check on a GPU found, written as it is found, within a limit of time."""

import json
import platform
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum, auto
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

NOT_RUN = "not run on a GPU"
"""What stands where a number of a GPU would, and none was at hand."""
PACKAGES = ("torch", "transformers", "peft", "numpy")


class Status(StrEnum):
    """What became of a check."""

    passed = auto()
    failed = auto()
    measured = auto()
    """A figure without a bar, or whose bar a person judges."""
    skipped = auto()
    """It cannot be done here; the note says why."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found."""

    status: Status
    values: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something to find out."""

    name: str
    look: Callable[[], Finding]
    estimate_s: float = 20.0
    """It is begun only if so much time is left."""


class TimeIsUpError(Exception):
    """The limit was reached within a check."""


class SkippedError(Exception):
    """A check cannot be done here; the message says why."""


def judged(passed: bool, note: str = "", **values: Any) -> Finding:
    """A finding that held its bar, or did not."""
    return Finding(status=Status.passed if passed else Status.failed, values=values, note=note)


@dataclass(kw_only=True)
class Record:
    """The findings of one part, in a JSON and a Markdown file that are always up to date."""

    folder: Path
    part: str
    device: torch.device
    limit_s: float
    rows: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Read what an earlier call found on the same device: it is not looked for again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.json.exists():
            kept = json.loads(self.json.read_text())
            if kept["machine"] == self._machine():
                self.rows = kept["rows"]

    @property
    def json(self) -> Path:
        """All findings with their machine."""
        return self.folder / f"gpu_check_{self.part}.json"

    @property
    def markdown(self) -> Path:
        """The same as a table."""
        return self.folder / f"gpu_check_{self.part}.md"

    @property
    def left_s(self) -> float:
        """Seconds until the limit."""
        return self.limit_s - (time.monotonic() - self.began)

    @property
    def failed(self) -> int:
        """Checks that did not hold."""
        return sum(row["status"] == Status.failed for row in self.rows)

    def value(self, check: str, figure: str) -> float | None:
        """A figure of a check that was made, in this call or before; None without it."""
        found = [row["values"].get(figure) for row in self.rows if row["name"] == check]
        return found[0] if found else None

    def run(self, checks: Sequence[Check]) -> None:
        """Make the checks in order until the time is up, those left out that held before."""
        known = {row["name"] for row in self.rows if row["status"] != Status.failed}
        signal.signal(signal.SIGALRM, _time_is_up)
        signal.setitimer(signal.ITIMER_REAL, max(0.1, self.left_s))
        try:
            for check in checks:
                if check.name in known:
                    continue
                if check.estimate_s > self.left_s:
                    print(f"{check.name}: left for the next call ({self.left_s:.0f} s are left)")
                    continue
                self._make(check)
        except TimeIsUpError:
            print("the time is up; the same command goes on with what is missing", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.write()

    def _make(self, check: Check) -> None:
        start = time.monotonic()
        try:
            found = check.look()
        except SkippedError as error:
            found = Finding(status=Status.skipped, note=str(error))
        except TimeIsUpError:
            raise
        except Exception as error:
            text = "".join(traceback.format_exception(error)[-3:])
            found = Finding(status=Status.failed, note=f"{error!r}", values={"traceback": text})
        self.add(check.name, found, time.monotonic() - start)

    def add(self, name: str, found: Finding, seconds: float) -> None:
        """Note a finding, and write all of them."""
        row = {"name": name, "seconds": round(seconds, 1), **asdict(found)}
        self.rows = [each for each in self.rows if each["name"] != name] + [row]
        print(_line(row), flush=True)
        self.write()

    def write(self) -> None:
        """Write both files whole."""
        content = {"part": self.part, "machine": self._machine(), "rows": self.rows}
        _replace(self.json, json.dumps(content, indent=1) + "\n")
        lines = [
            f"# Part {self.part}, {self._machine()['device']}",
            "",
            "| what | result | figures | s |",
            "|---|---|---|---|",
            *map(_line, self.rows),
        ]
        _replace(self.markdown, "\n".join(lines) + "\n")

    def _machine(self) -> dict[str, Any]:
        gpu = self.device.type == "cuda"
        name = torch.cuda.get_device_name(self.device) if gpu else f"processor ({NOT_RUN})"
        return {
            "device": name,
            "python": platform.python_version(),
            "versions": {name: version(name) for name in PACKAGES},
        }


def _line(row: Mapping[str, Any]) -> str:
    figures = ", ".join(
        f"{name} {_short(value)}" for name, value in row["values"].items() if name != "traceback"
    )
    note = f" ({row['note']})" if row["note"] else ""
    note = " ".join(note.replace("|", "/").split())
    return f"| {row['name']} | {row['status']} {note} | {figures} | {row['seconds']} |"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def _time_is_up(*_: object) -> None:
    raise TimeIsUpError
