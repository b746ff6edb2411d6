"""The parquet files of kept records: their columns, and how a part of them is written and read.

A part is the files that one sitting writes; they share a number. See ``kept.py``.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rlcredit.tables.records import Record

BOUNDS = ("mean", "low", "high")
_MEASURE = pa.struct(
    [("name", pa.string())]
    + [
        (f"{part}_{bound}", pa.float64())
        for part in ("before", "after", "difference")
        for bound in BOUNDS
    ]
)
INDEX = pa.schema(
    [(name, pa.string()) for name in ("digest", "digest_before", "kin", "name")]
    + [(name, pa.string()) for name in ("code_revision", "data_digest", "identity", "evaluation")]
    + [("overrides", pa.list_(pa.string())), ("prompt_ids", pa.list_(pa.string()))]
    + [("summary", pa.string()), ("measures", pa.list_(_MEASURE))]
)
SCORES = pa.schema(
    [(name, pa.string()) for name in ("digest", "phase", "cell")]
    + [("values", pa.list_(pa.float64()))]
)
METRICS = pa.schema(
    [
        ("digest", pa.string()),
        ("step", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)

FAMILIES = pa.schema(
    [
        ("data_digest", pa.string()),
        ("prompt_ids", pa.list_(pa.string())),
        ("families", pa.list_(pa.int32())),
    ]
)


def part_of(path: Path) -> str:
    """The number in a file's name, whole or temporary; empty where it has none."""
    found = re.fullmatch(r"\.?\w+(-\w+)*-(\d{4,})\.parquet(\.tmp)?", path.name)
    return found[2] if found else ""


def parts_in(folder: Path) -> set[str]:
    """Numbers that some file has, those of parts that were cut short included."""
    return {part_of(path) for path in folder.iterdir()} - {""} if folder.is_dir() else set()


def score_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Sorted by what is alike in many runs (the scores before training), which packs it away."""
    rows = [
        {"digest": record.summary.digest, "phase": str(phase), "cell": cell, "values": values}
        for record in records
        for phase, scores in record.scores.items()
        for cell, values in scores.values.items()
    ]
    return sorted(rows, key=lambda row: (row["phase"], row["cell"], row["digest"]))


def metric_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Sorted by metric, whose values are alike from step to step and from run to run."""
    rows = [
        {
            "digest": record.summary.digest,
            "step": line["step"],
            "metric": name,
            "value": float(value),
        }
        for record in records
        for line in record.logged
        for name, value in line.items()
        if name != "step" and "step" in line
    ]
    return sorted(rows, key=lambda row: (row["metric"], row["digest"], row["step"]))


def family_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The families of each list of queries that the records were scored on, once for each data."""
    known = {
        (record.summary.data_digest, scores.prompt_ids): scores.families
        for record in records
        for scores in record.scores.values()
        if scores.families is not None
    }
    return [
        {"data_digest": data, "prompt_ids": ids, "families": families}
        for (data, ids), families in known.items()
    ]


def by_digest(table: pa.Table) -> dict[str, pa.Table]:
    """A table's rows by digest, in their order."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, each in enumerate(table["digest"].to_pylist()):
        rows[each].append(row)
    return {each: table.take(pa.array(own)) for each, own in rows.items()}


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """A whole file, its pages checked. ValueError if it is missing, damaged or of another shape."""
    if not path.exists():
        raise ValueError(f"{path.name} is missing")
    table = pq.read_table(path, page_checksum_verification=True)
    if not table.schema.equals(schema):
        raise ValueError(f"{path.name} has other columns than {', '.join(schema.names)}")
    return table


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A new file that is whole or absent; a temporary one is left where the process is killed.

    Raises:
        FileExistsError: If another process writes it.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("xb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            temporary.unlink()
            raise
    os.replace(temporary, path)


def write_table(file: BinaryIO, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Rows as parquet. Scores and values are stored bit by bit as they are."""
    split = [name for name in schema.names if name == "value"]
    packed = [name for name in schema.names if name not in split]
    pq.write_table(
        pa.Table.from_pylist([dict(row) for row in rows], schema=schema),
        file,
        compression="zstd",
        compression_level=19,
        use_dictionary=packed,  # pyright: ignore[reportArgumentType] a list of columns is taken too
        use_byte_stream_split=split or False,  # pyright: ignore[reportArgumentType] the same
        write_page_checksum=True,
    )
