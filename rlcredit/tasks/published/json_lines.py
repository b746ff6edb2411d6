"""Files of one JSON object per line, plain or gzipped; whatever is wrong in one names its line."""

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

_HALF = re.compile("[\ud800-\udfff]")


def read_lines(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number, from 1, and object of each line that is not blank.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is no JSON object in UTF-8, or holds half a character.
    """
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}; give the path of a .jsonl or .jsonl.gz")
    opened = gzip.open if file.suffix == ".gz" else open
    row = 0
    try:
        with opened(file, "rt", encoding="utf-8-sig", newline="\n") as lines:
            for row, line in enumerate(lines, 1):
                if line.strip():
                    yield row, _object(line, row, file)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ValueError(
            f"{file} is no UTF-8 text, or was cut short, behind line {row} ({error}); download it "
            "again, or write it whole"
        ) from error


def text_of(record: Mapping[str, Any], column: str, row: int, file: Path | str) -> str:
    """The text of a column; a number is written out, null is the empty text.

    Raises:
        ValueError: If the column is missing, or its value is neither.
    """
    if column not in record:
        raise ValueError(
            f"line {row} of {file} has no column {column!r}; it has {', '.join(record) or 'none'}"
        )
    value = record[column]
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError(f"line {row} of {file}: {column} must be a text, not {value!r:.80}")
    return "" if value is None else str(value)


def _object(line: str, row: int, file: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {row} of {file} is no JSON ({error}); mend the line") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {row} of {file} is no JSON object but {line.strip()!r:.80}")
    if _HALF.search(json.dumps(record, ensure_ascii=False)):
        raise ValueError(
            f"line {row} of {file} holds half a character (a lone surrogate such as "
            '"\\ud83d"), which no tokenizer can read; write the whole one, or leave it out'
        )
    return record


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")
