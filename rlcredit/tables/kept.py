"""The records that the repository keeps of finished runs: a few parquet files, never rewritten.

    index-0000.parquet          a row a run: digest, identity, words, settings, every measure
    scores-<data>-0000.parquet  (digest, phase, cell, values): one score per test query
    metrics-<data>-0000.parquet (digest, step, metric, value): the lines of metrics.jsonl
    families-0000.parquet       (data digest, query ids, families): which queries reword one intent

Each sitting appends a part with a number of its own. Its index is written last, so a part that was
cut short holds no run; what is left of it is named. The queries' ids stand in the index, in the
order of the scores. Rankings are not kept: the scores of every query are the record.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rlcredit.identity import digest, without_numerics
from rlcredit.run.folder import RunSummary
from rlcredit.tables.declare import Phase
from rlcredit.tables.parts import (
    BOUNDS,
    FAMILIES,
    INDEX,
    METRICS,
    SCORES,
    by_digest,
    family_rows,
    metric_rows,
    part_of,
    parts_in,
    read_table,
    score_rows,
    whole_file,
    write_table,
)
from rlcredit.tables.records import FinishedRun, Record, Scores
from rlcredit.tracking.strict_json import convert

REMEDY = "restore the file (git checkout), or remove its part and run its jobs again"
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, pa.ArrowException)
"""What reading a file raises that is missing, cut off, damaged or of another shape."""


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
        except UNREADABLE as error:
            problems.append(f"{self.place}: scores cannot be read ({error}): {REMEDY}")
        try:
            logged = self.records.logged(self)
        except UNREADABLE as error:
            problems.append(f"{self.place}: metrics cannot be read ({error}): {REMEDY}")
        return Record(
            place=self.place,
            config=str(self.records.file("index", part=self.part)),
            summary=self.summary,
            scores=scores,
            logged=logged,
            overrides=self.words,
            problems=tuple(problems),
            kept=True,
        )


@dataclass(frozen=True, kw_only=True)
class KeptRecords:
    """The kept records in a folder. Files of scores and metrics are read once, when asked for."""

    folder: Path
    _tables: dict[Path, dict[str, pa.Table]] = field(default_factory=dict, repr=False)
    _families: dict[Path, dict[tuple[str, tuple[str, ...]], NDArray[np.int64]]] = field(
        default_factory=dict, repr=False
    )

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
            except UNREADABLE as error:
                problems.append(f"{path} cannot be read ({error}): {REMEDY}")
        return tuple(runs), tuple(problems)

    @property
    def runs(self) -> tuple[KeptRun, ...]:
        """All runs whose index can be read."""
        return self._read_index[0]

    @property
    def damaged(self) -> tuple[str, ...]:
        """Index files that cannot be read, so that their runs seem never to have run."""
        return self._read_index[1]

    @property
    def problems(self) -> tuple[str, ...]:
        """Index files that cannot be read, and what is left of parts that were cut short."""
        return (*self.damaged, *self._cut_short())

    def _cut_short(self) -> Iterator[str]:
        """Files whose part has no index: their sitting ended while it wrote them."""
        whole = {path.stem.removeprefix("index-") for path in self.folder.glob("index-*.parquet")}
        for part in sorted(parts_in(self.folder) - whole):
            files = sorted(str(path) for path in self.folder.iterdir() if part_of(path) == part)
            yield (
                f"{', '.join(files)}: part {part} has no index, so the sitting that wrote it was "
                "cut short. Its runs lie in their folders, and rlcredit tables keeps them anew; "
                "remove what is left"
            )

    def _rows(self, path: Path) -> Iterator[KeptRun]:
        for row in read_table(path, INDEX).to_pylist():
            measures = {measure.pop("name"): _nested(measure) for measure in row["measures"]}
            known = json.loads(row["summary"]) | {"identity": json.loads(row["identity"])}
            yield KeptRun(
                records=self,
                part=path.stem.removeprefix("index-"),
                summary=convert(known | {"measures": measures}, RunSummary),
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
        for row in self._of(run, "scores", SCORES).to_pylist():
            if len(row["values"]) != len(run.prompt_ids):
                count = f"{len(row['values'])} scores for {len(run.prompt_ids)} queries"
                raise ValueError(f"{row['cell']} has {count}")
            values[Phase(row["phase"])][row["cell"]] = np.array(row["values"], dtype=np.float64)
        families = self._families_of(run)
        return {
            phase: Scores(prompt_ids=run.prompt_ids, values=cells, families=families)
            for phase, cells in values.items()
        }

    def _families_of(self, run: KeptRun) -> NDArray[np.int64] | None:
        """The families of a run's queries; None where its evaluation recorded none."""
        path = self.file("families", part=run.part)
        if path not in self._families:
            rows = read_table(path, FAMILIES).to_pylist()
            self._families[path] = {
                (row["data_digest"], tuple(row["prompt_ids"])): np.array(row["families"])
                for row in rows
            }
        return self._families[path].get((run.summary.data_digest, run.prompt_ids))

    def logged(self, run: KeptRun) -> tuple[Mapping[str, int | float], ...]:
        """What a run logged, a mapping per step in which it logged something.

        Raises:
            ValueError: If the file is missing or damaged.
        """
        table = self._of(run, "metrics", METRICS)
        lines: dict[int, dict[str, int | float]] = {}
        columns = (table[name].to_pylist() for name in ("step", "metric", "value"))
        for step, metric, value in zip(*columns, strict=True):
            lines.setdefault(step, {"step": step})[metric] = value
        return tuple(lines[step] for step in sorted(lines))

    def _of(self, run: KeptRun, kind: str, schema: pa.Schema) -> pa.Table:
        """A run's rows of one kind."""
        path = self.file(kind, part=run.part, data=_data(run.summary))
        if path not in self._tables:
            self._tables[path] = by_digest(read_table(path, schema))
        if run.summary.digest not in self._tables[path]:
            raise ValueError(f"{path.name} has no row of it")
        return self._tables[path][run.summary.digest]

    def append(self, runs: Iterable[FinishedRun]) -> list[str]:
        """Write a part with all of these runs that can be kept; what is there stays as it is.

        Returns:
            Of each run that cannot be kept, a sentence that says why.

        Raises:
            OSError: If a file cannot be written.
        """
        records: list[Record] = []
        rows: list[Mapping[str, Any]] = []
        refused: list[str] = []
        for run in runs:
            record = run.read()
            try:
                rows.append(index_row(run, record))
                records.append(record)
            except ValueError as error:
                refused.append(f"{run.place} finished and is not kept: {error}")
        if rows:
            self.write(records, rows)
        return refused

    def write(self, records: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> None:
        """Write a part from what was read and the rows of its index.

        Raises:
            OSError: If a file cannot be written, or another sitting writes this part.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        by_data: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_data[_data(record.summary)].append(record)
        part = f"{max(map(int, parts_in(self.folder)), default=-1) + 1:04d}"
        with whole_file(self.file("index", part=part)) as index:  # first, so that it reserves part
            for data, own in by_data.items():
                with whole_file(self.file("scores", part=part, data=data)) as file:
                    write_table(file, score_rows(own), SCORES)
                with whole_file(self.file("metrics", part=part, data=data)) as file:
                    write_table(file, metric_rows(own), METRICS)
            with whole_file(self.file("families", part=part)) as file:
                write_table(file, family_rows(records), FAMILIES)
            write_table(index, rows, INDEX)
        self.__dict__.pop("_read_index", None)


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
    asked = {scores.prompt_ids for scores in record.scores.values()}
    if len(asked) > 1:
        raise ValueError(f"{run.place} was scored on other queries before training than after it")
    plain = asdict(summary)
    identity, measures, _ = (plain.pop(name) for name in ("identity", "measures", "record"))
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
        "prompt_ids": next(iter(asked)),
        "summary": json.dumps(plain),
        "measures": [{"name": name} | _flat(change) for name, change in measures.items()],
    }


def _flat(change: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    return {f"{part}_{bound}": change[part][bound] for part in change for bound in BOUNDS}


def _nested(flat: Mapping[str, float | None]) -> dict[str, dict[str, float | None]]:
    change: dict[str, dict[str, float | None]] = defaultdict(dict)
    for name, value in flat.items():
        part, bound = name.split("_")
        change[part][bound] = value
    return change


def _data(summary: RunSummary) -> str:
    return summary.name.split("/")[0]
