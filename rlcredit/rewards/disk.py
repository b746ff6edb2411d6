"""Rows of numbers on disk, by key, in a file that several processes may share.

SQLite in WAL mode: readers never wait, one process writes at a time, what was written survives a
kill. The folder must be on a local disk; WAL does not work over a network.
"""

import fcntl
import logging
import os
import sqlite3
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import xxhash

_log = logging.getLogger(__name__)

_FILE = "rows.sqlite"
_KEYS_AT_ONCE = 1000
_CHECKSUM_BYTES = 8
_PATIENCE_S = 30.0
"""How long a write waits for another process's."""
_DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What a damaged file raises. A file that is locked, full or unreadable raises OperationalError."""


class DiskCache:
    """Bytes by key. A value once written is never replaced, so every reader sees the same bits.

    A file that is no database, is cut short, or holds a value with a wrong checksum (SQLite has
    none of its own) is set aside as ``rows.damaged`` with a warning, and a new one begun: what it
    held is computed again. A write that fails (a full disk) is said once, and nothing is written
    from then on.

    Raises:
        OSError: If the folder cannot be made, read or written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _FILE
        self._writes = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open()
        except (OSError, sqlite3.OperationalError) as error:
            raise OSError(
                f"the reward cache's folder {folder} cannot be used ({error}); set "
                "reward.cache.folder to a folder on a local disk that you may read and write, or "
                "to null"
            ) from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that are there."""
        found: dict[bytes, bytes] = {}
        try:
            for first in range(0, len(keys), _KEYS_AT_ONCE):
                some = keys[first : first + _KEYS_AT_ONCE]
                rows = self._connection.execute(
                    "SELECT CAST(key AS BLOB), CAST(ifnull(value, '') AS BLOB) FROM rows "
                    f"WHERE key IN ({','.join('?' * len(some))})",
                    some,
                )
                found |= {key: _checked(key, value) for key, value in rows}
        except sqlite3.OperationalError as error:
            raise OSError(
                f"the reward cache {self.path} cannot be read ({error}); look at its disk, or "
                "set reward.cache.folder=null"
            ) from error
        except _DAMAGE as error:
            self._open(instead_of_damaged=error)
            return {}
        return found

    def put(self, items: Mapping[bytes, bytes]) -> None:
        """Keep values, all or none."""
        if not self._writes:
            return
        rows = [(key, value + _checksum(key, value)) for key, value in items.items()]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR IGNORE INTO rows VALUES (?, ?)", rows)
        except sqlite3.OperationalError as error:
            self._writes = False
            _log.warning(
                "rewards cannot be written to %s any more (%s); the run goes on without. Make room "
                "there, or set another reward.cache.folder",
                self.path,
                error,
            )
        except _DAMAGE as error:
            self._open(instead_of_damaged=error)

    def _open(self, *, instead_of_damaged: Exception | None = None) -> None:
        """Connect to the file, which is made where there is none, and made anew if it is damaged.

        Args:
            instead_of_damaged: What the file raised that was open until now.
        """
        with self.path.with_name("lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # no other process opens it or sets it aside meanwhile
            if instead_of_damaged is not None:
                self._connection.close()
                if self.path.exists() and self.path.stat().st_ino == self._inode:
                    self._set_aside(instead_of_damaged)  # else another process has done so
            try:
                self._connection = self._connected()
            except sqlite3.OperationalError:
                raise
            except _DAMAGE as error:
                self._set_aside(error)
                self._connection = self._connected()
            self._inode = self.path.stat().st_ino

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=_PATIENCE_S, isolation_level="IMMEDIATE")
        weakref.finalize(self, connection.close)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (key BLOB PRIMARY KEY, value BLOB)")
        connection.execute("SELECT typeof(key), typeof(value) FROM rows LIMIT 1").fetchall()
        return connection

    def _set_aside(self, error: Exception) -> None:
        aside = self.path.with_suffix(".damaged")
        os.replace(self.path, aside)
        for name in ("-wal", "-shm"):
            self.path.with_name(_FILE + name).unlink(missing_ok=True)
        _log.warning(
            "the reward cache %s is damaged (%s); set aside as %s, begun anew",
            self.path,
            error,
            aside.name,
        )


def _checksum(key: bytes, value: bytes) -> bytes:
    return xxhash.xxh3_64_digest(key + value)


def _checked(key: bytes, stored: bytes) -> bytes:
    value, checksum = stored[:-_CHECKSUM_BYTES], stored[-_CHECKSUM_BYTES:]
    if checksum != _checksum(key, value):
        raise sqlite3.DatabaseError("a value's checksum is wrong")
    return value
