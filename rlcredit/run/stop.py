"""A request to stop that waits for the end of a step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rlcredit.distributed.launcher import stopping


@dataclass
class StopRequest:
    """Whether a signal asked to stop, and which."""

    number: int | None = None

    @property
    def exit_status(self) -> int:
        """By convention, 128 and the signal's number: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.number or 0)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Note the first Ctrl-C, SIGTERM or hangup within the context; the second acts at once.

    A hangup never acts at once: a closed terminal sends it twice, by the shell and by the kernel.
    """
    request = StopRequest()
    before = {number: signal.getsignal(number) for number in stopping()}

    def note(number: int, frame: FrameType | None) -> None:
        request.number = number
        for each, handler in before.items():
            if each != signal.SIGHUP:
                signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
