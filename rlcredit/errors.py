"""Sentences for a reader: errors raised on purpose, the nearest valid name, commands to paste."""

import linecache
import re
import shlex
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

PACKAGE = Path(__file__).parent


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, outermost first; an error that is its own cause's context once."""
    seen: list[BaseException] = []
    while error is not None and not any(error is link for link in seen):
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def raised_here(error: BaseException | None) -> bool:
    """Was it raised on purpose, by a ``raise`` statement of this package?"""
    if (
        not isinstance(error, ValueError | OSError | RuntimeError | ArithmeticError)
        or error.__traceback__ is None
    ):
        return False
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    path = trace.tb_frame.f_code.co_filename
    statement = linecache.getline(path, trace.tb_lineno).strip()
    return PACKAGE in Path(path).parents and statement.startswith("raise ")


def nearest(name: str, options: Iterable[str]) -> str:
    """A line with the option that a mistyped name is closest to; empty if none is close."""
    last = re.split(r"[/.]", name)[-1]
    close = get_close_matches(last, list(options), n=1, cutoff=0.5)
    return f"\ndid you mean {close[0]!r}?" if close else ""


def pasted(command: str, **settings: object) -> str:
    """A command line with settings ``key=value`` that a shell, and then Hydra, read as they are."""
    words = [f"{key}={_quoted(str(value))}" for key, value in settings.items()]
    return shlex.join([*command.split(), *words])


def _quoted(value: str) -> str:
    """A value in Hydra's grammar: quoted, if it is no path of letters, digits and ``._-``."""
    if re.fullmatch(r"[\w.-]*/[\w/.-]*", value, re.ASCII):
        return value
    escaped = re.sub(r'(\\*)("|$)', lambda m: m[1] * 2 + m[2].replace('"', '\\"'), value)
    return f'"{escaped}"'
