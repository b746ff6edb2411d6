"""The records that the repository keeps of finished runs: a few parquet files, never rewritten.

    index-0000.parquet          a row a run: digest, identity, words, settings, every measure
    scores-<data>-0000.parquet  (digest, phase, cell, values): one score per test query
    metrics-<data>-0000.parquet (digest, step, metric, value): the lines of metrics.jsonl

Each sitting appends a part with a number of its own. Its index is written last, so a part that was
cut short is not there. The queries' ids stand in the index, in the order of the scores.
"""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlcredit.identity import digest, without_numerics
from rlcredit.report.run_folder import RunSummary, parse_summary
from rlcredit.tables.declare import Phase
from rlcredit.tables.records import FinishedRun, Record, Scores

REMEDY = "restore the file, or remove it and run its jobs again"
_BOUNDS = ("mean", "low", "high")
_MEASURE = pa.struct(
    [("name", pa.string())]
    + [
        (f"{part}_{bound}", pa.float64())
        for part in ("before", "after", "difference")
        for bound in _BOUNDS
    ]
)
_INDEX = pa.schema(
    [(name, pa.string()) for name in ("digest", "digest_before", "kin", "name")]
    + [(name, pa.string()) for name in ("code_revision", "data_digest", "identity", "evaluation")]
    + [("overrides", pa.list_(pa.string())), ("prompt_ids", pa.list_(pa.string()))]
    + [("summary", pa.string()), ("measures", pa.list_(_MEASURE))]
)
_SCORES = pa.schema(
    [(name, pa.string()) for name in ("digest", "phase", "cell")]
    + [("values", pa.list_(pa.float64()))]
)
_METRICS = pa.schema(
    [
        ("digest", pa.string()),
        ("step", pa.int32()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A row of the index."""

    records: "KeptRecords"
    part: str
    """Which sitting wrote it: ``0000``."""
    summary: RunSummary
    words: tuple[str, ...]
    scored_with: Mapping[str, Any]
    prompt_ids: tuple[str, ...]
    kept: bool = True

    @property
    def place(self) -> str:
        """Folder and digest."""
        return f"{self.records.folder}#{self.summary.digest[:8]}"

    def overrides(self) -> tuple[str, ...]:
        """The words that it was asked for with."""
        return self.words

    def evaluation(self) -> Mapping[str, Any]:
        """The settings that it was scored with."""
        return self.scored_with

    def evaluation_digest(self) -> str:
        """Empty: the settings themselves are at hand."""
        return ""

    def read(self) -> Record:
        """Its scores and what it logged."""
        problems: list[str] = []
        scores: Mapping[Phase, Scores] = {}
        logged: tuple[Mapping[str, int | float], ...] = ()
        try:
            scores = self.records.scores(self)
        except (ValueError, KeyError, TypeError, OSError) as error:
            problems.append(f"{self.place}: scores cannot be read ({error}): {REMEDY}")
        try:
            logged = self.records.logged(self)
        except (ValueError, KeyError, TypeError, OSError) as error:
            problems.append(f"{self.place}: metrics cannot be read ({error}): {REMEDY}")
        return Record(
            place=self.place,
            config=str(self.records.file("index", part=self.part)),
            summary=self.summary,
            scores=scores,
            logged=logged,
            overrides=self.words,
            problems=tuple(problems),
        )


@dataclass(frozen=True, kw_only=True)
class KeptRecords:
    """The kept records in a folder. Files of scores and metrics are read once, when asked for."""

    folder: Path
    _tables: dict[Path, dict[str, pa.Table]] = field(default_factory=dict, repr=False)

    def file(self, kind: str, *, part: str, data: str = "") -> Path:
        """Where a part of one kind lies."""
        return self.folder / f"{'-'.join(filter(None, (kind, data, part)))}.parquet"

    @cached_property
    def _read_index(self) -> tuple[tuple[KeptRun, ...], tuple[str, ...]]:
        runs: list[KeptRun] = []
        problems: list[str] = []
        for path in sorted(self.folder.glob("index-*.parquet")):
            try:
                runs += self._rows(path)
            except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
                problems.append(f"{path} cannot be read ({error}): {REMEDY}")
        return tuple(runs), tuple(problems)

    @property
    def runs(self) -> tuple[KeptRun, ...]:
        """All runs whose index can be read."""
        return self._read_index[0]

    @property
    def problems(self) -> tuple[str, ...]:
        """Index files that cannot be read."""
        return self._read_index[1]

    def _rows(self, path: Path) -> Iterator[KeptRun]:
        for row in _read(path, _INDEX).to_pylist():
            measures = {measure.pop("name"): _nested(measure) for measure in row["measures"]}
            known = json.loads(row["summary"]) | {"identity": json.loads(row["identity"])}
            yield KeptRun(
                records=self,
                part=path.stem.removeprefix("index-"),
                summary=parse_summary(known | {"measures": measures}),
                words=tuple(row["overrides"]),
                scored_with=json.loads(row["evaluation"]),
                prompt_ids=tuple(row["prompt_ids"]),
            )

    def scores(self, run: KeptRun) -> dict[Phase, Scores]:
        """The scores of a run in both phases.

        Raises:
            ValueError: If the file is missing or damaged, or the run's rows are not whole.
        """
        values: dict[Phase, dict[str, Any]] = defaultdict(dict)
        for row in self._of(run, "scores", _SCORES).to_pylist():
            if len(row["values"]) != len(run.prompt_ids):
                count = f"{len(row['values'])} scores for {len(run.prompt_ids)} queries"
                raise ValueError(f"{row['cell']} has {count}")
            values[Phase(row["phase"])][row["cell"]] = np.array(row["values"], dtype=np.float64)
        return {p: Scores(prompt_ids=run.prompt_ids, values=cells) for p, cells in values.items()}

    def logged(self, run: KeptRun) -> tuple[Mapping[str, int | float], ...]:
        """What a run logged, a mapping per step in which it logged something.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        table = self._of(run, "metrics", _METRICS)
        lines: dict[int, dict[str, int | float]] = {}
        columns = (table[name].to_pylist() for name in ("step", "metric", "value"))
        for step, metric, value in zip(*columns, strict=True):
            lines.setdefault(step, {"step": step})[metric] = value
        return tuple(lines[step] for step in sorted(lines))

    def _of(self, run: KeptRun, kind: str, schema: pa.Schema) -> pa.Table:
        """A run's rows of one kind."""
        path = self.file(kind, part=run.part, data=_data(run.summary))
        if path not in self._tables:
            self._tables[path] = _by_digest(_read(path, schema))
        if run.summary.digest not in self._tables[path]:
            raise ValueError(f"{path.name} has no row of it")
        return self._tables[path][run.summary.digest]

    def append(self, runs: Collection[FinishedRun]) -> None:
        """Write a part with these runs; what is there stays as it is.

        Raises:
            ValueError: If the scores of a run cannot be read, or it recorded no identity.
            OSError: If a file cannot be written.
        """
        read = [(run, run.read()) for run in runs]
        rows = [index_row(run, record) for run, record in read]
        self.write([record for _, record in read], rows)

    def write(self, records: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a part from what was read and the rows of its index."""
        self.folder.mkdir(parents=True, exist_ok=True)
        by_data: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_data[_data(record.summary)].append(record)
        part = self._next_part()
        for data, own in by_data.items():
            _write(self.file("scores", part=part, data=data), _score_rows(own), _SCORES)
            _write(self.file("metrics", part=part, data=data), _metric_rows(own), _METRICS)
        _write(self.file("index", part=part), rows, _INDEX)
        self.__dict__.pop("_read_index", None)

    def _next_part(self) -> str:
        """A number that no file has, those of a part that was cut short included."""
        taken = [path.stem.rsplit("-", 1)[-1] for path in self.folder.glob("*-*.parquet")]
        return f"{max((int(each) for each in taken if each.isdigit()), default=-1) + 1:04d}"


def index_row(run: FinishedRun, record: Record) -> dict[str, Any]:
    """A run's row of the index.

    Raises:
        ValueError: If its scores cannot be read, or it does not say what it is.
    """
    summary = run.summary
    if not record.scores:
        raise ValueError("; ".join(record.problems))
    if not summary.identity:
        raise ValueError(f"{run.place} recorded no identity, so nothing could find its record")
    (prompt_ids,) = {scores.prompt_ids for scores in record.scores.values()}
    plain = asdict(summary)
    identity, measures = plain.pop("identity"), plain.pop("measures")
    return {
        "digest": summary.digest,
        "digest_before": None,
        "kin": digest(without_numerics(identity)),
        "name": summary.name,
        "code_revision": summary.code_revision,
        "data_digest": summary.data_digest,
        "identity": json.dumps(identity),
        "evaluation": json.dumps(run.evaluation()),
        "overrides": run.overrides(),
        "prompt_ids": prompt_ids,
        "summary": json.dumps(plain),
        "measures": [{"name": name} | _flat(change) for name, change in measures.items()],
    }


def _flat(change: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    return {f"{part}_{bound}": change[part][bound] for part in change for bound in _BOUNDS}


def _nested(flat: Mapping[str, float | None]) -> dict[str, dict[str, float | None]]:
    change: dict[str, dict[str, float | None]] = defaultdict(dict)
    for name, value in flat.items():
        part, bound = name.split("_")
        change[part][bound] = value
    return change


def _data(summary: RunSummary) -> str:
    return summary.name.split("/")[0]


def _score_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Sorted by what is alike in many runs (the scores before training), which packs it away."""
    rows = [
        {"digest": record.summary.digest, "phase": str(phase), "cell": cell, "values": values}
        for record in records
        for phase, scores in record.scores.items()
        for cell, values in scores.values.items()
    ]
    return sorted(rows, key=lambda row: (row["phase"], row["cell"], row["digest"]))


def _metric_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    rows = [
        {"digest": record.summary.digest, "step": line["step"], "metric": name, "value": value}
        for record in records
        for line in record.logged
        for name, value in line.items()
        if name != "step" and "step" in line
    ]
    return sorted(rows, key=lambda row: (row["metric"], row["digest"], row["step"]))


def _by_digest(table: pa.Table) -> dict[str, pa.Table]:
    """A table's rows by digest, in their order."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, each in enumerate(table["digest"].to_pylist()):
        rows[each].append(row)
    return {each: table.take(pa.array(own)) for each, own in rows.items()}


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    """A whole file, its pages checked. ValueError if it is missing, damaged or of another shape."""
    if not path.exists():
        raise ValueError(f"{path.name} is missing")
    table = pq.read_table(path, page_checksum_verification=True)
    if not table.schema.equals(schema):
        raise ValueError(f"{path.name} has other columns than {', '.join(schema.names)}")
    return table


def _write(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """A whole file, or none. Scores and values are stored bit by bit as they are."""
    temporary = path.with_name(f".{path.name}.tmp")
    split = [name for name in schema.names if name == "value"]
    packed = [name for name in schema.names if name not in split]
    pq.write_table(
        pa.Table.from_pylist([dict(row) for row in rows], schema=schema),
        temporary,
        compression="zstd",
        compression_level=19,
        use_dictionary=packed,  # pyright: ignore[reportArgumentType] a list of columns is taken too
        use_byte_stream_split=split or False,  # pyright: ignore[reportArgumentType] the same
        write_page_checksum=True,
    )
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
