"""Where each process of a run stands, readable by all of them even when one is dead or stuck."""

import json
import time
from dataclasses import dataclass

from torch.distributed.distributed_c10d import Store

PREFIX = "board"
"""Tells keys of the board from those that torch's process groups keep in the same store."""


class RankError(RuntimeError):
    """A process of a run died, failed or fell behind; the message says which, and where."""


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a process said last."""

    meetings: int
    """How many times it has come to meet the others."""
    phase: str


@dataclass(kw_only=True)
class Board:
    """Marks in the store through which the processes found each other."""

    store: Store
    rank: int
    size: int
    meetings: int = 0
    phase: str = "start"

    def enter(self, phase: str) -> None:
        """Say what this process does from now on."""
        self.phase = phase
        self._write()

    def meet(self) -> None:
        """Say that this process waits for the others."""
        self.meetings += 1
        self._write()

    def read(self, rank: int) -> Mark:
        """What a process said last."""
        said = self.get(f"mark/{rank}")
        if said is None:
            return Mark(meetings=0, phase="start")
        meetings, phase = json.loads(said)
        return Mark(meetings=meetings, phase=phase)

    def behind(self) -> list[int]:
        """The processes that have not come to the latest meeting of this one."""
        others = (rank for rank in range(self.size) if rank != self.rank)
        return [rank for rank in others if self.read(rank).meetings < self.meetings]

    def give_up(self, *, patience_s: float) -> list[int]:
        """Say that the latest meeting of this process failed; who does not say the same in time.

        A process that stopped inside a meeting has come to it, so :meth:`behind` does not tell.
        """
        self.put(f"given up/{self.rank}", str(self.meetings))
        silent = [rank for rank in range(self.size) if rank != self.rank]
        deadline = time.monotonic() + patience_s
        while silent and time.monotonic() < deadline:
            time.sleep(0.05)
            silent = [rank for rank in silent if self.get(f"given up/{rank}") is None]
        return silent

    def get(self, name: str) -> str | None:
        """A note, or None where there is none."""
        key = f"{PREFIX}/{name}"
        return self.store.get(key).decode() if self.store.check([key]) else None

    def put(self, name: str, text: str) -> None:
        """Leave a note for the others."""
        self.store.set(f"{PREFIX}/{name}", text)

    def _write(self) -> None:
        self.put(f"mark/{self.rank}", json.dumps([self.meetings, self.phase]))
