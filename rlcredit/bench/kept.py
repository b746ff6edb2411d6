"""The record of the bench, ``credit_bench.json``, read back: what its pictures are drawn from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

RECORD_FILE = "credit_bench.json"
Bounds = tuple[float, float, float]
"""Figure, low, high."""


@dataclass(frozen=True)
class Rows:
    """A table of the record."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Each row by its columns."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class BenchRecord:
    """What pictures show of the record."""

    worlds: Mapping[str, str]
    own_loss: Mapping[str, str]
    """Estimator -> the loss that its YAML chooses."""
    same_as: Mapping[str, str]
    """Estimator -> the one under whose name its advantages were measured."""
    gradients: Rows
    credit: Rows
    bandits: Rows
    price: Rows

    @classmethod
    def read(cls, folder: Path) -> "BenchRecord":
        """The record in a folder of results.

        Raises:
            ValueError: If there is none, or it is of another version.
        """
        path = folder / RECORD_FILE
        if not path.exists():
            raise ValueError(
                f"{path} is missing; measure first: rlcredit credit-bench out=<folder>"
            )
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except msgspec.MsgspecError as error:
            raise ValueError(f"{path} is no record of this version ({error})") from error

    def cosines(self) -> dict[str, dict[str, float]]:
        """Estimator -> world -> cosine with the true gradient, with the estimator's own loss."""
        measured = {(r["estimator"], r["loss"], r["world"]): r["cosine"] for r in self.gradients}
        found = {
            name: {
                world: bounds[0]
                for world in self.worlds
                if (bounds := measured.get((self.same_as[name], loss, world))) is not None
            }
            for name, loss in self.own_loss.items()
        }
        return {name: row for name, row in found.items() if row}

    def agreements(self, values: Sequence[str]) -> dict[str, list[float]]:
        """Estimator -> mean over worlds of its rank correlation with each kind of truth."""
        found: dict[str, list[Mapping[str, Any]]] = {}
        for row in self.credit:
            found.setdefault(row["estimator"], []).append(row)
        return {
            name: [_mean([row[key][0] for row in rows if row[key] is not None]) for key in values]
            for name, rows in found.items()
        }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
