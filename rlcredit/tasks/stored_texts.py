"""Texts in an Arrow file, memory-mapped: a catalogue that is larger than what is read of it.

A file is named by all that its texts depend on, so that what lies there is taken and not made
again; the processes of a machine share its pages.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import pyarrow as pa

from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.checked import read_checked, write_checked
from rlcredit.retrieval.damaged import set_aside
from rlcredit.retrieval.digest import digest

TEXT = "text"
"""The file's column."""

_IN_MEMORY = 2**17
"""Documents whose texts are kept in memory, at most."""
_PART = 2**16
"""Texts that are written together."""

_SCHEMA = pa.schema([(TEXT, pa.string())])


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredTexts(Sequence[str]):
    """The texts of a file, each read when it is asked for."""

    column: pa.ChunkedArray

    def __len__(self) -> int:
        """How many there are."""
        return len(self.column)

    def __iter__(self) -> Iterator[str]:
        """The texts one after another; none is kept."""
        for chunk in self.column.chunks:
            yield from chunk.to_pylist()

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        """One of the texts, or a run of them."""
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        return self.column[at].as_py()


def stored_texts(path: Path, number: int, make: Callable[[], Iterable[list[str]]]) -> StoredTexts:
    """The texts of a file; made and written part by part where it is not there.

    A damaged file is set aside as ``<name>.damaged`` with a warning, and made again.

    Args:
        path: Named by all that the texts depend on.
        number: How many there are.
        make: The texts in order, in parts.

    Raises:
        OSError: If the file cannot be written.
    """
    try:
        if path.exists():
            return read_checked(path, lambda file: _mapped(file, number))
    except (ValueError, OSError) as error:
        set_aside(path, error)
    write_checked(path, lambda file: _write(file, make()))
    return _mapped(path, number)


def with_stored_texts(documents: Documents, folder: Path) -> Documents:
    """The same documents; where there are many, their texts lie in a file of the folder.

    Raises:
        OSError: If the file cannot be written.
    """
    number = len(documents.ids)
    if number <= _IN_MEMORY:
        return documents
    name = digest(documents.texts)

    def parts() -> Iterator[list[str]]:
        return (list(documents.texts[at : at + _PART]) for at in range(0, number, _PART))

    return replace(documents, texts=stored_texts(folder / f"{name}.arrow", number, parts))


def _mapped(path: Path, number: int) -> StoredTexts:
    with pa.memory_map(str(path)) as source:
        column = pa.ipc.open_file(source).read_all()[TEXT]
    if len(column) != number:
        raise ValueError(f"it holds {len(column)} texts, not {number}")
    return StoredTexts(column=column)


def _write(path: Path, parts: Iterable[list[str]]) -> None:
    with pa.ipc.new_file(str(path), _SCHEMA) as file:
        for part in parts:
            file.write_batch(pa.record_batch([pa.array(part, pa.string())], schema=_SCHEMA))
