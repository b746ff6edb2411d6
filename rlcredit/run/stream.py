"""What a person may stop reading: a stream that cannot be written stops nothing."""

import os
from pathlib import Path
from typing import Any, TextIO, cast


def best_effort(stream: TextIO) -> TextIO:
    """The stream, which falls silent at the first error of the operating system.

    That is a closed pipe (``| head -1``), a closed terminal, or a full disk. Characters that its
    encoding lacks are replaced. None, where a process has no such stream, stays None.
    """
    return stream if stream is None else cast(TextIO, _BestEffort(stream))


def appended(path: Path) -> TextIO:
    """A stream to the end of a text file, which is open while a text is written, and no longer.

    What a full disk does not take is lost; what follows is written once there is room.
    """
    return cast(TextIO, _Appended(path))


class _Appended:
    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, text: str) -> int:
        """Write what can be written; the number of characters that were given."""
        try:
            with self._path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(text)
        except OSError:
            pass
        return len(text)

    def flush(self) -> None:
        """Nothing is buffered."""


class _BestEffort:
    """All but writing is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """What the stream has."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written; the number of characters that were given."""
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
        except OSError:
            self._fall_silent()
        return len(text)

    def flush(self) -> None:
        """Hand on what is buffered, if that is possible."""
        try:
            self._stream.flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        # what is buffered is flushed once more when the process ends, and that must not fail
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), self._stream.fileno())
