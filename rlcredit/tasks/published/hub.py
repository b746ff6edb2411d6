"""Data sets from the Hugging Face hub, by the ``datasets`` library and its cache."""

from collections.abc import Sequence
from pathlib import Path

import datasets
import pyarrow as pa

from rlcredit.tasks.published.esci_files import EXAMPLE_COLUMNS, PRODUCT_COLUMNS
from rlcredit.tasks.published.tables import as_texts


def hub_tables(name: str, *, revision: str | None) -> tuple[pa.Table, pa.Table]:
    """Examples and products, every column as text, from one table that holds both.

    Args:
        name: Data set on the hub, or a local folder of the same layout.
        revision: Commit on the hub.

    Raises:
        ConnectionError: If the hub cannot be reached and its cache does not hold the set.
        FileNotFoundError: If the local folder holds no such files.
        ValueError: If a column is missing.
    """
    columns = [c for c in dict.fromkeys((*EXAMPLE_COLUMNS, *PRODUCT_COLUMNS)) if c != "split"]
    parts = []
    for split, rows in _load(name, revision).items():
        missing = [column for column in columns if column not in rows.column_names]
        if missing:
            raise ValueError(
                f"{name} has no column {', '.join(missing)}; found "
                f"{', '.join(rows.column_names)}; set dataset.revision to a commit with the "
                "published columns"
            )
        table = as_texts(rows.with_format("arrow")[:], columns)
        parts.append(table.append_column("split", pa.array([str(split)] * len(table))))
    both = pa.concat_tables(parts)
    return both.select(EXAMPLE_COLUMNS), both.select(PRODUCT_COLUMNS)


def hub_rows(
    name: str, *, part: str, revision: str | None, columns: Sequence[str]
) -> dict[str, pa.Table]:
    """Read some columns as text, by split.

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
    found: dict[str, pa.Table] = {}
    for split, rows in _load(name, revision, part).items():
        missing = [column for column in columns if column not in rows.column_names]
        if missing:
            raise ValueError(
                f"{name} has no column {', '.join(missing)}; found "
                f"{', '.join(rows.column_names)}; set dataset.revision to a commit with the "
                "published columns"
            )
        found[split] = as_texts(rows.with_format("arrow")[:], columns)
    return found


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
