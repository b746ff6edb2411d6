"""Starts the processes of a run from inside one job, watches them, and says which one failed."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import connection, forkserver, get_context, resource_tracker
from multiprocessing.process import BaseProcess
from traceback import format_exception
from types import FrameType
from typing import Any

from torch.distributed import (
    DistNetworkError,
    TCPStore,  # pyright: ignore[reportPrivateImportUsage] exported where torch has it
)

from rlcredit.distributed.board import Board, RankError
from rlcredit.distributed.world import World

GRACE_S = 10.0
"""How long the others may take to end by themselves after one process has failed."""
HOST = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Start:
    """How many processes, where they meet, and how long they wait for each other."""

    processes: int
    device: str
    timeout_s: float
    port: int | None = None
    """Port of the store through which they find each other; None: one that is free."""


def start_processes(
    work: Callable[..., float | None],
    args: tuple[Any, ...],
    start: Start,
    *,
    explain: Callable[[BaseException], str | None],
) -> float | None:
    """Run ``work(*args, world=...)`` in several processes; what it returned in the first.

    Nothing is written to disk: arguments go through a pipe. A signal to stop is handed on to every
    process, and the exit status by which they answer becomes this one's.

    Args:
        work: A function of a module, so that the processes can import it.
        args: For it.
        start: How many, and where they meet.
        explain: The sentence for an error that a person can act on; None for a bug.

    Raises:
        RankError: If a process fails, dies or is stuck: which, in which phase, and why; or if the
            port is taken.
        SystemExit: If the processes were told to stop, and did.
    """
    store = _serve(start)
    # forkserver: what the work needs is imported once, and every process is a copy of it
    context = get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__, work.__module__])
    _start_forkserver()
    processes = [
        context.Process(
            target=_run, args=(work, args, start, store.port, rank, explain), name=f"rank {rank}"
        )
        for rank in range(start.processes)
    ]
    board = Board(store=store, rank=-1, size=start.processes)
    with _handing_on_signals(processes) as got:
        for process in processes:
            process.start()
        killed = _wait(processes)
    codes = [process.exitcode or 0 for process in processes]
    if not any(codes):
        said = board.get("result")
        return None if said is None else json.loads(said)
    if got and not killed:
        sys.exit(128 + got[-1])
    raise RankError(first_failure(codes, killed, board))


def _serve(start: Start) -> TCPStore:
    try:
        return TCPStore(
            HOST,
            start.port or 0,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=start.timeout_s),
        )
    except DistNetworkError as error:
        raise RankError(
            f"the processes of the run cannot meet at trainer.port={start.port}: the port is in "
            "use, or this user may not open it; set trainer.port=null, which takes a free one"
        ) from error


def _run(
    work: Callable[..., float | None],
    args: tuple[Any, ...],
    start: Start,
    port: int,
    rank: int,
    explain: Callable[[BaseException], str | None],
) -> None:
    """One process, from start to end."""
    os.setpgid(0, 0)  # Ctrl-C reaches the job alone, which hands it on once
    timeout = timedelta(seconds=start.timeout_s)
    store = TCPStore(HOST, port, is_master=False, timeout=timeout)
    board = Board(store=store, rank=rank, size=start.processes)
    try:
        world = World.join(
            store,
            rank=rank,
            size=start.processes,
            device=start.device,
            timeout_s=start.timeout_s,
        )
        result = work(*args, world=world)
        if rank == 0:
            board.put("result", json.dumps(result))
        world.leave()
    except Exception as error:
        kind = "late" if isinstance(error, RankError) else "failure"
        board.put(f"{kind}/{rank}", explain(error) or "".join(format_exception(error)))
        sys.exit(1)


def _wait(processes: Sequence[BaseProcess]) -> set[int]:
    """Until all have ended; the ranks that had to be killed after another had failed."""
    deadline: float | None = None
    while alive := [process for process in processes if process.is_alive()]:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            for process in alive:
                process.kill()
            for process in alive:
                process.join()
            return {processes.index(process) for process in alive}
        connection.wait([process.sentinel for process in alive], timeout=left)
        failed = any(process.exitcode for process in processes)
        if failed and deadline is None:
            deadline = time.monotonic() + GRACE_S
    return set()


def stopping() -> tuple[signal.Signals, ...]:
    """Signals that ask a run to stop; a hangup is none where it is ignored, as under nohup."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGINT, signal.SIGTERM, *(() if ignored else (signal.SIGHUP,)))


def _hear() -> None:
    """Take signals to stop; in forks, since the fork server does not."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping())


os.register_at_fork(after_in_child=_hear)


def _start_forkserver() -> None:
    """Start it deaf to what stops the job's whole group: it alone tells how the processes end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, stopping())
    try:
        resource_tracker.ensure_running()  # which unblocks some
        signal.pthread_sigmask(signal.SIG_BLOCK, stopping())
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handing_on_signals(processes: Sequence[BaseProcess]) -> Iterator[list[int]]:
    """Hand signals to stop on to the processes within the context; yield those that came."""
    got: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        got.append(number)
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, number)

    before = {number: signal.signal(number, hand_on) for number in stopping()}
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_failure(codes: Sequence[int], killed: set[int], board: Board) -> str:
    """Who failed first, as far as can be told: who died, then who raised, then who waited."""
    ranks = [rank for rank, code in enumerate(codes) if code]
    notes = {rank: board.get(f"failure/{rank}") for rank in ranks}
    late = {rank: board.get(f"late/{rank}") for rank in ranks}
    for rank in ranks:
        if rank in killed or notes[rank] is not None or late[rank] is not None:
            continue
        code = codes[rank]
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"
        return (
            f"rank {rank} of {len(codes)} {how} in {board.read(rank).phase}, and the run ends with "
            "it; the same command goes on from the last checkpoint. If nobody killed it, memory "
            "may have run out: lower trainer.processes or trainer.tokens_per_microbatch"
        )
    for rank in ranks:
        if notes[rank] is not None:
            return f"rank {rank} of {len(codes)} failed in {board.read(rank).phase}: {notes[rank]}"
    return next(text for text in late.values() if text is not None)
