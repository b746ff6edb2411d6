"""Data sets from the Hugging Face hub, by the ``datasets`` library and its cache."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from rlcredit.tasks.published.esci_files import EXAMPLE_COLUMNS, EXAMPLE_IDS, PRODUCT_COLUMNS
from rlcredit.tasks.published.tables import BATCH, Table


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
