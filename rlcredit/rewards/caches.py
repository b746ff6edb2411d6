"""What was computed once is remembered by its content, in memory and, where asked for, on disk."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlcredit.distributed.machine import machine_type
from rlcredit.retrieval.digest import digest
from rlcredit.rewards.disk import DiskCache

Key = tuple[str, str]
"""Hash of all that a row depends on but its text, and the text."""

_BYTES_PER_ENTRY = 250
"""Bytes of the interpreter's objects around a key and its row, about."""


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where rewards and encodings are remembered; changes no number, and no run's digest.

    Raises:
        ValueError: If the memory is negative.
    """

    memory_mb: int = 256
    """Memory for each retriever's rewards, and as much for its encodings; 0: none. The least
    recently used go first."""
    folder: str | None = None
    """Kept there as well, for later runs and others at the same time; null: in memory alone. It
    grows, and may be deleted at any time."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.memory_mb < 0:
            raise ValueError(f"memory_mb={self.memory_mb}, but it is 0 or more; 256 is usual")

    def open(self) -> "Caches":
        """Empty memory, and what the folder holds.

        Raises:
            OSError: If there is a folder and it cannot be used.
        """
        disk = None if self.folder is None else DiskCache(Path(self.folder).expanduser())
        return Caches(
            rewards=Rows(max_bytes=self.memory_mb * 2**20, disk=disk),
            encodings=Rows(max_bytes=self.memory_mb * 2**20, disk=disk),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Caches:
    """The two levels. A reward that is remembered needs no encoding."""

    rewards: "Rows"
    """(encoding, index, pool, grades, measure), text -> [1]."""
    encodings: "Rows"
    """(encoder, revision, pooling, prompt, dtype), text -> [D + 2]."""


@dataclass(kw_only=True, eq=False)
class Rows:
    """float32 rows by key: the recent ones in memory, all of them on disk, if there is a folder."""

    max_bytes: int
    disk: DiskCache | None = None
    _recent: OrderedDict[Key, bytes] = field(default_factory=OrderedDict, init=False, repr=False)
    _bytes: int = field(default=0, init=False)

    def get(self, keys: Sequence[Key]) -> tuple[Bool[Tensor, " N"], Float[Tensor, "n D"]]:
        """Which of N keys are known, and the rows of the known ones, in their order."""
        rows = [self._recent.get(key) for key in keys]
        for key, row in zip(keys, rows, strict=True):
            if row is not None:
                self._recent.move_to_end(key)
        if self.disk is not None:
            self._read_disk(keys, rows)
        known = torch.tensor([row is not None for row in rows], dtype=torch.bool)
        joined = bytearray().join(row for row in rows if row is not None)
        if not joined:
            return known, torch.zeros(0, 0)
        return known, torch.frombuffer(joined, dtype=torch.float32).view(int(known.sum()), -1)

    def put(self, keys: Sequence[Key], rows: Float[Tensor, "N D"]) -> None:
        """Remember rows."""
        if self.max_bytes == 0 and self.disk is None:
            return
        raw = rows.detach().float().cpu().contiguous().numpy().tobytes()
        size = len(raw) // max(len(keys), 1)
        values = [raw[i * size : (i + 1) * size] for i in range(len(keys))]
        for key, value in zip(keys, values, strict=True):
            self._keep(key, value)
        if self.disk is not None:
            names = map(_name, keys)
            self.disk.put(dict(zip(names, values, strict=True)))

    def recalled(
        self, keys: Sequence[Key], compute: Callable[[list[int]], Float[Tensor, " n"]]
    ) -> tuple[Float[Tensor, " N"], int]:
        """One value for each of N distinct keys: those known, and the others computed and kept.

        Args:
            keys: N of them, all different.
            compute: The values of the keys at n positions, in float32.

        Returns:
            (values, how many of them were known).
        """
        known, rows = self.get(keys)
        missing: list[int] = (~known).nonzero().squeeze(1).tolist()
        values = torch.zeros(len(keys))
        values[known] = rows.flatten()
        if missing:
            values[~known] = fresh = compute(missing)
            self.put([keys[i] for i in missing], fresh[:, None])
        return values, len(keys) - len(missing)

    def __len__(self) -> int:
        return len(self._recent)

    def _read_disk(self, keys: Sequence[Key], rows: list[bytes | None]) -> None:
        """Fill in what memory does not have."""
        assert self.disk is not None
        missing = [i for i, row in enumerate(rows) if row is None]
        names = {i: _name(keys[i]) for i in missing}
        found = self.disk.get([*names.values()])
        for i, name in names.items():
            value = rows[i] = found.get(name)
            if value is not None:
                self._keep(keys[i], value)

    def _keep(self, key: Key, value: bytes) -> None:
        if self.max_bytes == 0 or key in self._recent:
            return
        self._recent[key] = value
        self._bytes += _cost(key, value)
        while self._bytes > self.max_bytes:
            self._bytes -= _cost(*self._recent.popitem(last=False))


def _cost(key: Key, value: bytes) -> int:
    return _BYTES_PER_ENTRY + len(key[1]) + len(value)


def _name(key: Key) -> bytes:
    """The name of a key on disk, with the packages and the type of machine that compute."""
    return bytes.fromhex(digest(*key, *_VERSIONS, machine_type()))


def _version(package: str) -> str:
    """Name and version of a package; the base install has no sentence encoders."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} absent"


_FORMAT = "2"
"""Version of scoring; raised when it changes, so that rewards on disk are computed again."""
_PACKAGES = ("torch", "transformers", "sentence-transformers", "bm25s", "scikit-learn")
_VERSIONS = (_FORMAT, *(_version(name) for name in _PACKAGES))
