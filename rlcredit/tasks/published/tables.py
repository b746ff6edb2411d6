"""Reads published tables as text, batch by batch: parquet or CSV, ids whole, missing values "".

Every way in which a file can be wrong ends in a sentence that names the file, the column or the
row, and the remedy.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".csv")
BATCH = 2**16
"""Rows that lie in memory at a time."""

_ONE_WORD = r"^[^\s\p{Z}\x0b\x1c-\x1f\x{85}]+$"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some rows of a table, every value as text."""

    origin: str
    """The table's file, which errors name."""
    first: int
    """Number of the first row, from 1."""
    rows: pa.Table

    def texts(self, column: str) -> list[str]:
        """The values of a column."""
        return self.rows[column].to_pylist()

    def where(self, column: str, value: str) -> "Batch":
        """The rows with one value in a column."""
        return self.filtered(pc.call_function("equal", [self.rows[column], pa.scalar(value)]))

    def since(self, column: str, least: str) -> "Batch":
        """The rows with a value in alphabetical order at or behind ``least``."""
        at_least = [self.rows[column], pa.scalar(least)]
        return self.filtered(pc.call_function("greater_equal", at_least))

    def largest(self, column: str) -> str:
        """The alphabetically last value of a column; "" where there is no row."""
        return pc.call_function("max", [self.rows[column]]).as_py() or ""

    def filtered(self, kept: pa.Array | pa.ChunkedArray) -> "Batch":
        """Some of the rows; their numbers are lost."""
        return replace(self, rows=self.rows.filter(kept))

    def refuse_unlike(self, column: str, pattern: str, rule: str) -> None:
        """Refuse values that a regular expression (RE2) does not match.

        Args:
            column: Whose values.
            pattern: What each of them holds.
            rule: The rest of the sentence, behind the value, its row and the file.

        Raises:
            ValueError: If there is one.
        """
        like = pc.call_function(
            "match_substring_regex", [self.rows[column]], pc.MatchSubstringOptions(pattern)
        )
        at = pc.call_function("index", [like], pc.IndexOptions(pa.scalar(value=False))).as_py()
        if at >= 0:
            value = self.rows[column][at].as_py()
            row = f"row {self.first + at} of {self.origin}"
            raise ValueError(f"{column} {value!r} in {row} {rule}")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A published table, whose rows are never all in memory."""

    origin: str
    """Its file, or its name on the hub."""
    columns: tuple[str, ...]
    ids: tuple[str, ...] = ()
    """Columns of ids, which are one word each."""
    parts: Callable[[Sequence[str]], Iterable[tuple[str, Iterable[pa.Table]]]]
    """Some columns as they are stored: each file's name, and its rows in order."""

    def batches(self, *columns: str) -> Iterator[Batch]:
        """Rows in file order.

        Args:
            columns: What is read; nothing means all of the table's.

        Raises:
            ValueError: If a value cannot be read as text, an id is not one word, or there is no
                row.
        """
        found = False
        wanted = columns or self.columns
        for origin, stored in self.parts(wanted):
            first = 1
            for rows in stored:
                texts = {c: _as_text(rows[c], f"column {c} of {origin}", first) for c in wanted}
                batch = Batch(origin=origin, first=first, rows=pa.table(texts))
                for column in (column for column in self.ids if column in wanted):
                    rule = "holds white space or nothing, and an id is one word; mend the file"
                    batch.refuse_unlike(column, _ONE_WORD, rule)
                found, first = found or len(rows) > 0, first + len(rows)
                yield batch
            if not found:
                raise ValueError(f"{origin} has no rows; download it again")

    def rows(self, *columns: str) -> Iterator[tuple[str, ...]]:
        """The values of some columns, row by row."""
        for batch in self.batches(*columns):
            yield from zip(*(batch.texts(column) for column in columns), strict=True)


def table_file(folder: Path, name: str) -> Path:
    """The file of a table: ``name.parquet``, else ``name.csv``.

    Raises:
        FileNotFoundError: If the folder or both files are missing.
    """
    if not folder.is_dir():
        raise FileNotFoundError(
            f"dataset.path={folder} is not a folder; it must hold {name}.parquet or {name}.csv "
            "under its published name"
        )
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise FileNotFoundError(
        f"{folder} holds neither {name}.parquet nor {name}.csv (found: {found}); download the "
        "published files there, or set dataset.path to where they are"
    )


def read_table(
    file: Path, columns: Sequence[str], *, ids: Sequence[str] = (), text_ids: Sequence[str] = ()
) -> Table:
    """Some columns of a parquet or CSV file.

    Args:
        file: Ends in .parquet or .csv.
        columns: What is read.
        ids: Those of them that are ids.
        text_ids: Those of them that must be stored as text, because numbers lose leading zeros.

    Raises:
        ValueError: If the file is empty, damaged, lacks a column, or stores such an id as a number.
    """
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty (0 bytes); download it again")
    is_parquet = file.suffix == ".parquet"
    with _damage_named(file):
        found = pq.read_schema(file) if is_parquet else _csv_schema(file)
    missing = [column for column in columns if column not in found.names]
    if missing:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}; expected {', '.join(columns)}, found "
            f"{', '.join(found.names)}"
        )
    for column in text_ids:
        kind = found.field(column).type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            raise ValueError(
                f"column {column} of {file} is stored as {kind}, which drops the leading zeros of "
                f"ids; write it as text (pandas: read_csv(..., dtype={{'{column}': str}}))"
            )
    return Table(
        origin=str(file),
        columns=tuple(columns),
        ids=tuple(ids),
        parts=lambda wanted: [(str(file), (_parquet if is_parquet else _csv)(file, wanted))],
    )


def file_digest(file: Path) -> str:
    """Content hash of a file."""
    digest = blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{file} cannot be read, {error}; download it again") from error


def _parquet(file: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    with _damage_named(file), pq.ParquetFile(file) as stored:
        for batch in stored.iter_batches(BATCH, columns=list(columns)):
            yield pa.Table.from_batches([batch])


def _csv_schema(file: Path) -> pa.Schema:
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return pa.schema([(name, pa.string()) for name in next(csv.reader(stream), [])])


def _csv(file: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Cells as bytes: which of them are no text is found out, and said, later."""
    options = pa_csv.ConvertOptions(
        column_types={column: pa.binary() for column in columns}, include_columns=list(columns)
    )
    parsing = pa_csv.ParseOptions(newlines_in_values=True)
    with (
        _damage_named(file),
        pa_csv.open_csv(file, parse_options=parsing, convert_options=options) as stored,
    ):
        for batch in stored:
            yield pa.Table.from_batches([batch])


def _as_text(values: pa.ChunkedArray, what: str, first: int) -> pa.ChunkedArray:
    """Values as strings: true is 1, a whole number has no point, NaN and what is missing are ""."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if pa.types.is_nested(kind):
        raise ValueError(
            f"{what} is stored as {kind}, and a cell holds one text or number; write it as such"
        )
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif pa.types.is_floating(kind):
        values = _whole_numbers(values)
    elif not pa.types.is_integer(kind) and not pa.types.is_temporal(kind):
        values = _utf8(values, what, first)
    return pc.fill_null(pc.cast(values, pa.string()), "")


def _whole_numbers(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """NaN as missing, and as integers where all the others are."""
    nan = pc.call_function("is_nan", [values])
    values = pc.call_function("if_else", [nan, pa.scalar(None, values.type), values])
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return values


def _utf8(values: pa.ChunkedArray, what: str, first: int) -> pa.ChunkedArray:
    stored = values.cast(pa.binary())
    try:
        return stored.cast(pa.string())
    except pa.ArrowInvalid:
        for row, value in enumerate(stored.to_pylist(), first):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{what}: row {row} is no UTF-8 text ({error}); write the file in UTF-8"
                ) from error
        raise
