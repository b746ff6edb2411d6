"""Check a published search table from the runs that its authors stored, query by query.

    python -m scripts.check_published raw_query.json their_model.json

A file is a JSON object, one entry per query: ``"<id>_<query>": {"id", "retrieved", "target",
"ndcg@10", ...}`` with both lists as text (``"['B01', 'B02']"``), the format of Rec-R1
(arXiv:2503.24289). The rankings are scored again as the authors score ("again"), and with each
relevant document counted once ("once"); the first file is what the others are compared with.
"""

import argparse
import ast
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.stats import paired_interval

CUTOFFS = (10, 100)
SAME = 1e-9
NOT_STATED = "—"
SYNTAX = re.compile(r"^[\w.]+:|^[+\-&|!]+|[\"()\[\]{}^~*]|^(AND|OR|NOT)$")
"""Fields, operators, quotes and groups of a search engine's query language."""


class Entry(msgspec.Struct):
    """A query's entry as it is stored."""

    id: int | str
    retrieved: str
    target: str
    ndcg_10: float | None = msgspec.field(name="ndcg@10", default=None)
    ndcg_100: float | None = msgspec.field(name="ndcg@100", default=None)


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query with its ranking and its relevant documents, repetitions included."""

    query_id: str
    text: str
    retrieved: tuple[str, ...]
    relevant: tuple[str, ...]
    stated: tuple[float, ...]
    """nDCG at each of the cut-offs; NaN where the file says nothing."""

    @property
    def words(self) -> list[str]:
        """What stands between blanks."""
        return self.text.split()

    @property
    def repeats(self) -> bool:
        """Whether a relevant document is listed more than once."""
        return len(set(self.relevant)) < len(self.relevant)

    def ndcg(self, cutoff: int, *, as_stated: bool = False) -> float:
        """Binary gains over log2(rank + 1), relative to the ideal order.

        Args:
            cutoff: Ranks below this one do not matter.
            as_stated: Whether the ideal order has a document as often as it is listed.
        """
        known = set(self.relevant)
        ranks = range(2, cutoff + 2)
        found = list(self.retrieved if as_stated else dict.fromkeys(self.retrieved))
        gain = sum(1 / math.log2(rank) for rank, d in zip(ranks, found, strict=False) if d in known)
        size = len(self.relevant) if as_stated else len(known)
        ideal = sum(1 / math.log2(rank) for rank, _ in zip(ranks, range(size), strict=False))
        return gain / ideal if ideal else 0.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One file."""

    name: str
    queries: tuple[Query, ...]

    def scores(self, cutoff: int, *, as_stated: bool = False) -> NDArray[np.float64]:
        """[Q]."""
        return np.array([query.ndcg(cutoff, as_stated=as_stated) for query in self.queries])


def read(path: Path) -> Run:
    """A file of stored runs.

    Raises:
        ValueError: If the file has another shape, or no query.
    """
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=dict[str, Entry])
        queries = tuple(_query(key, entry) for key, entry in entries.items())
    except (ValueError, SyntaxError) as error:
        expected = '{"<id>_<query>": {"id", "retrieved", "target", "ndcg@10"}}'
        raise ValueError(f"{path}: {error}; expected {expected} with both lists as text") from error
    if not queries:
        raise ValueError(f"{path} holds no query")
    return Run(name=path.stem, queries=queries)


def _query(key: str, entry: Entry) -> Query:
    prefix = f"{entry.id}_"
    if not key.startswith(prefix):
        raise ValueError(f"the key {key[:40]!r} does not begin with its id, {entry.id!r}")
    return Query(
        query_id=str(entry.id),
        text=key.removeprefix(prefix),
        retrieved=_ids(entry.retrieved, key),
        relevant=_ids(entry.target, key),
        stated=tuple(math.nan if n is None else n for n in (entry.ndcg_10, entry.ndcg_100)),
    )


def _ids(text: str, key: str) -> tuple[str, ...]:
    """A list of ids that was written as Python writes it; literals alone are read."""
    found = ast.literal_eval(text)
    if not isinstance(found, list):
        raise ValueError(f"{key[:40]!r}: {text[:40]!r} is no list of ids")
    return tuple(map(str, found))


def sheet(runs: Sequence[Run]) -> str:
    """What each file states, what comes out again, and what stands in its queries."""
    head = (
        *("run", "queries"),
        *(f"nDCG@{cutoff}, {what}" for cutoff in CUTOFFS for what in ("stated", "again", "once")),
        *("entries that differ", "queries with repeated documents", "queries at 0"),
        *("words per query", "search syntax"),
    )
    return _markdown(head, [_row(run) for run in runs])


def _row(run: Run) -> tuple[str, ...]:
    stated = np.array([query.stated for query in run.queries])
    again = np.stack([run.scores(cutoff, as_stated=True) for cutoff in CUTOFFS], axis=1)
    once = np.stack([run.scores(cutoff) for cutoff in CUTOFFS], axis=1)
    words = [word for query in run.queries for word in query.words]
    syntax = sum(bool(SYNTAX.search(word)) for word in words) / max(len(words), 1)
    means = np.stack([stated.mean(0), again.mean(0), once.mean(0)], axis=1).ravel()
    return (
        *(run.name, str(len(run.queries))),
        *(NOT_STATED if math.isnan(mean) else f"{mean:.3f}" for mean in means),
        str(int((np.abs(stated - again) > SAME).any(1).sum())),
        *(str(sum(query.repeats for query in run.queries)), str(int((once[:, 0] == 0).sum()))),
        *(f"{len(words) / len(run.queries):.1f}", f"{syntax:.0%} of words"),
    )


def differences(runs: Sequence[Run]) -> str:
    """Each run minus the first, paired by query: what is stated, and each document once."""
    first = runs[0]
    head = ("nDCG", *(f"{run.name} minus {first.name}" for run in runs[1:]))
    rows = [
        (f"@{cutoff}", *(_difference(run, first, cutoff) for run in runs[1:])) for cutoff in CUTOFFS
    ]
    return _markdown(head, rows)


def _difference(run: Run, other: Run, cutoff: int) -> str:
    ours, theirs = (
        dict(zip((query.query_id for query in r.queries), r.scores(cutoff), strict=True))
        for r in (run, other)
    )
    shared = [key for key in ours if key in theirs]
    if not shared:
        return "no query in common"
    pairs = [np.array([scores[key] for key in shared]) for scores in (ours, theirs)]
    return with_interval(paired_interval(*pairs), sign=True) + f" ({len(shared)} queries)"


def by_length(run: Run) -> str:
    """nDCG@10 of the shorter, the middle and the longer third of a run's queries."""
    lengths = np.array([len(query.words) for query in run.queries])
    scores = run.scores(10)
    thirds = np.array_split(np.argsort(lengths, kind="stable"), 3)
    rows = [
        (f"{lengths[t].min()} to {lengths[t].max()}", str(len(t)), f"{scores[t].mean():.3f}")
        for t in thirds
        if len(t)
    ]
    return _markdown((f"{run.name}: words", "queries", "nDCG@10"), rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
    )


def main() -> None:
    """Read the files, print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "files", nargs="+", type=Path, help="stored runs; the first is the baseline"
    )
    try:
        runs = [read(path) for path in parser.parse_args().files]
    except (ValueError, OSError) as error:
        parser.error(str(error))
    parts = [sheet(runs), *([differences(runs)] if runs[1:] else []), *map(by_length, runs)]
    print("\n\n".join(parts))


if __name__ == "__main__":
    main()
