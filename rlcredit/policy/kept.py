"""Models that take long to make, kept in folders by what they are made of."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from safetensors import SafetensorError


def make_once(
    folder: Path, make: Callable[[Path], None], *, what: str, say: Callable[[str], None]
) -> None:
    """Fill a folder that is not there yet, whole or not at all.

    Of processes that need the same folder at once, one makes it and the others wait.

    Args:
        folder: Its name says what it is made of.
        make: Writes all of it into a folder that it is given.
        what: Words for what is made, for messages: "warm start".
        say: Told when another process is waited for.

    Raises:
        OSError: If it cannot be kept there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent.with_name("locks") / f"{folder.name}.lock"
        with _locked(lock, what=what, say=say):
            if folder.exists():
                return
            half_done = folder.with_name(f".making-{token_hex(8)}")
            half_done.mkdir()
            try:
                make(half_done)
                half_done.rename(folder)
            finally:
                shutil.rmtree(half_done, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        if folder.exists():
            return  # without locks another process made the same, as good as ours
        raise OSError(
            f"the {what} cannot be kept in {folder.parent} ({error}); make room there, or set "
            "cache=<a folder that you may write>"
        ) from error


@contextmanager
def _locked(path: Path, *, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a file, which stays; where the disk has no locks, say so and go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{what}: another process is making it; waiting for its end")
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            say(
                f"{what}: the disk of {path} refuses locks ({error.strerror}), so processes that "
                "start together each make it"
            )
        yield
