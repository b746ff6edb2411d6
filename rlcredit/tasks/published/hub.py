"""Data sets from the Hugging Face hub, by the ``datasets`` library and its cache."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetsError

from rlcredit.tasks.published.esci_files import EXAMPLE_COLUMNS, EXAMPLE_IDS, PRODUCT_COLUMNS
from rlcredit.tasks.published.tables import BATCH, Table

_log = logging.getLogger(__name__)

_PLAIN = ("bool", "int", "uint", "float", "large_string", "string")
"""How the names of types begin that JSON has values for."""


def hub_tables(name: str, *, revision: str | None) -> tuple[Table, Table]:
    """Examples and products, from one table that holds both.

    Args:
        name: Data set on the hub, or a local folder of the same layout.
        revision: Commit on the hub.

    Raises:
        ConnectionError: If the hub cannot be reached and its cache does not hold the set.
        FileNotFoundError: If the local folder holds no such files.
        ValueError: If a column is missing.
    """
    columns = [c for c in dict.fromkeys((*EXAMPLE_COLUMNS, *PRODUCT_COLUMNS)) if c != "split"]
    splits = _load(name, revision)
    for rows in splits.values():
        _refuse_missing(name, rows, columns)

    def parts(wanted: Sequence[str]) -> Iterator[tuple[str, Iterator[pa.Table]]]:
        for split, rows in splits.items():
            yield f"{name} ({split})", _batches(rows, wanted, split)

    return (
        Table(origin=name, columns=EXAMPLE_COLUMNS, ids=EXAMPLE_IDS, parts=parts),
        Table(origin=name, columns=PRODUCT_COLUMNS, ids=("product_id",), parts=parts),
    )


def hub_rows(
    name: str, *, part: str, revision: str | None, columns: Sequence[str]
) -> dict[str, Table]:
    """Some columns, by split.

    Args:
        name: Data set on the hub, or a local folder of the same layout.
        part: Configuration on the hub.
        revision: Commit on the hub.
        columns: What is read.

    Raises:
        ConnectionError: If the hub cannot be reached and its cache does not hold the set.
        FileNotFoundError: If the local folder holds no such files.
        ValueError: If a column is missing.
    """
    found: dict[str, Table] = {}
    for split, rows in _load(name, revision, part).items():
        _refuse_missing(name, rows, columns)
        origin = f"{name} ({split})"
        found[split] = Table(
            origin=origin,
            columns=tuple(columns),
            parts=lambda wanted, origin=origin, rows=rows: [(origin, _batches(rows, wanted))],
        )
    return found


def hub_records(
    name: str, *, part: str | None, revision: str | None
) -> dict[str, Iterator[tuple[int, Mapping[str, Any]]]]:
    """Number, from 1, and columns of every row, by split.

    Columns that JSON has no values for (pictures, sounds, bytes, times) are left out, and named.

    Args:
        name: Data set on the hub, or a local folder of parquet, JSON or CSV files.
        part: Configuration on the hub; None: the only one.
        revision: Commit on the hub.

    Raises:
        ConnectionError: If the hub cannot be reached and its cache does not hold the set.
        ValueError: If the set cannot be read, or has several configurations.
    """
    local = Path(name).is_dir()
    try:
        loaded = datasets.load_dataset(name, part, revision=None if local else revision)
    except (ConnectionError, OSError) as error:
        remedy = (
            "dataset.hub_name is a name on the hub, or a folder of .parquet, .jsonl or .csv files"
            if local
            else "without a network, write its rows to a file and use dataset=jsonl"
        )
        raise ConnectionError(f"{name} cannot be had ({error}); {remedy}") from error
    except (ValueError, DatasetsError) as error:
        raise ValueError(
            f"{name} cannot be read: {error}. Choose a configuration with dataset.part=<name>"
        ) from error
    return {str(split): _records(f"{name} ({split})", rows) for split, rows in loaded.items()}


def _records(place: str, rows: datasets.Dataset) -> Iterator[tuple[int, Mapping[str, Any]]]:
    kept = [name for name, feature in rows.features.items() if _is_plain(feature)]
    if left_out := sorted(set(rows.column_names) - set(kept)):
        _log.warning("%s: columns that are no text or number: %s", place, ", ".join(left_out))
    record: Any
    for number, record in enumerate(rows.select_columns(kept), 1):
        yield number, {key: value for key, value in record.items() if value is not None}


def _is_plain(feature: Any) -> bool:
    """Whether JSON has values of a column's type."""
    if isinstance(feature, dict):
        return all(map(_is_plain, feature.values()))
    if isinstance(feature, datasets.Value):
        return feature.dtype.startswith(_PLAIN)
    if isinstance(feature, datasets.List | datasets.LargeList):
        return _is_plain(feature.feature)
    return isinstance(feature, datasets.ClassLabel)


def _refuse_missing(name: str, rows: datasets.Dataset, columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise ValueError(
            f"{name} has no column {', '.join(missing)}; found {', '.join(rows.column_names)}; "
            "set dataset.revision to a commit with the published columns"
        )


def _batches(
    rows: datasets.Dataset, columns: Sequence[str], split: str | None = None
) -> Iterator[pa.Table]:
    """Some columns as they are stored, that of the split's name among them where it is given."""
    stored = [column for column in columns if split is None or column != "split"]
    table: Any
    for table in rows.select_columns(stored).with_format("arrow").iter(BATCH):
        yield table if split is None else table.append_column("split", _constant(split, table))


def _constant(value: str, table: pa.Table) -> pa.Array:
    return pa.array([value] * len(table))


def _load(name: str, revision: str | None, part: str | None = None) -> dict[str, datasets.Dataset]:
    if Path(name).is_dir():
        loaded = datasets.load_dataset("parquet", data_files=_local_files(Path(name)))
        return {str(split): rows for split, rows in loaded.items()}
    try:
        loaded = datasets.load_dataset(name, part, revision=revision)
    except (ConnectionError, OSError) as error:
        raise ConnectionError(
            f"the hub does not give {name} ({error}); without a network, download the published "
            "files and run with dataset.source=path dataset.path=<their folder>"
        ) from error
    return {str(split): rows for split, rows in loaded.items()}


def _local_files(folder: Path) -> dict[str, list[str]]:
    """Find each split's parquet files, by the hub's names train-*.parquet and test-*.parquet."""
    found = {
        split: sorted(str(file) for file in folder.rglob(f"{split}*.parquet"))
        for split in ("train", "test")
    }
    if not all(found.values()):
        raise FileNotFoundError(
            f"{folder} holds no train*.parquet and test*.parquet; dataset.hub_name is a data set "
            "on the hub or a folder of its files"
        )
    return found
