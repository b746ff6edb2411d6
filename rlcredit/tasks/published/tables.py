"""Reads published tables as text: parquet or CSV, ids with their leading zeros, missing = "".

Every way in which a file can be wrong ends in a sentence that names the file, the rule and the
remedy.
"""

import csv
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

SUFFIXES = (".parquet", ".csv")


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


def read_table(file: Path, columns: Sequence[str], *, text_ids: Sequence[str] = ()) -> pa.Table:
    """Some columns of a parquet or CSV file, every value as text, in file order.

    Args:
        file: Ends in .parquet or .csv.
        columns: What is read.
        text_ids: Those of them that must be stored as text, because numbers lose leading zeros.

    Raises:
        ValueError: If the file is empty, damaged, lacks a column, or stores such an id as a number.
    """
    if file.stat().st_size == 0:
        raise ValueError(f"{file} is empty (0 bytes); download it again")
    try:
        found, table = _parquet(file, columns) if file.suffix == ".parquet" else _csv(file, columns)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read, {error}; download it again") from error
    if table is None:
        missing = [column for column in columns if column not in found]
        raise ValueError(
            f"{file} has no column {', '.join(missing)}; expected {', '.join(columns)}, found "
            f"{', '.join(found)}"
        )
    if table.num_rows == 0:
        raise ValueError(f"{file} has no rows; download it again")
    for column in text_ids:
        kind = table.schema.field(column).type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            raise ValueError(
                f"column {column} of {file} is stored as {kind}, which drops the leading zeros of "
                f"ids; write it as text (pandas: read_csv(..., dtype={{'{column}': str}}))"
            )
    return as_texts(table, columns)


def as_texts(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Some columns with every value as text, missing ones as ""."""
    texts = [pc.fill_null(pc.cast(table[column], pa.string()), "") for column in columns]
    return pa.table(texts, names=list(columns))


def texts_of(table: pa.Table, column: str) -> list[str]:
    """The values of a text column."""
    return table[column].to_pylist()


def largest(table: pa.Table, column: str) -> str:
    """The alphabetically last value of a text column."""
    return pc.call_function("max", [table[column]]).as_py()


def rows_where(table: pa.Table, column: str, value: str) -> pa.Table:
    """The rows with one value in a text column."""
    return table.filter(pc.call_function("equal", [table[column], pa.scalar(value)]))


def rows_from(table: pa.Table, column: str, least: str) -> pa.Table:
    """The rows with a value in alphabetical order at or behind ``least``."""
    return table.filter(pc.call_function("greater_equal", [table[column], pa.scalar(least)]))


def file_digest(file: Path) -> str:
    """Content hash of a file."""
    digest = blake2b(digest_size=16)
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _parquet(file: Path, columns: Sequence[str]) -> tuple[list[str], pa.Table | None]:
    found = pq.read_schema(file).names
    return found, pq.read_table(file, columns=list(columns)) if set(columns) <= set(found) else None


def _csv(file: Path, columns: Sequence[str]) -> tuple[list[str], pa.Table | None]:
    with file.open(encoding="utf-8-sig", newline="") as stream:
        found = next(csv.reader(stream), [])
    if not set(columns) <= set(found):
        return found, None
    options = pa_csv.ConvertOptions(
        column_types={column: pa.string() for column in found}, include_columns=list(columns)
    )
    parsing = pa_csv.ParseOptions(newlines_in_values=True)
    return found, pa_csv.read_csv(file, parse_options=parsing, convert_options=options)
