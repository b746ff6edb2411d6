"""A call that is waited for so long and no longer."""

from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class HungError(RuntimeError):
    """A call did not return in time."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """The value of a call that is made in a thread of its own.

    Python cannot end a thread. One that hangs goes on beside the process, with what it holds (a
    connection, a lock), until the process ends, which does not wait for it; so a process that saw
    one should end. Code that never lets go of the interpreter's lock cannot be timed out.

    Args:
        seconds: How long to wait.
        call: What to call. What it raises is raised here, with its traceback.

    Raises:
        HungError: If it has not returned by then.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # SystemExit too: nobody else would hear of it
            future.set_exception(error)

    Thread(target=work, daemon=True).start()
    wait([future], timeout=seconds)
    if not future.done():
        raise HungError(f"not done within {seconds:g} s")
    return future.result()
