"""A run owns its folder: a lock that dies with its process, and an id that proves what is its own.

Only the owner writes into a run's folder. The lock is an ``flock`` on a file that is never removed:
the system drops it when the process ends, however it ends, so a killed run resumes at once. (POSIX
locks, ``lockf``, would be dropped by any ``close`` of the file in the process.)
"""

import errno
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import yaml

from rlcredit.files import replace_file, writing

LOCK_FILE = ".lock"
RUN_ID_FILE = "run_id"
CONFIG_FOLDER = ".hydra"
LOG_FILE = "train.log"
"""What the console of a run says, in all of its sittings."""
RECORDED = (
    "metrics.jsonl",
    "completions.jsonl",
    "responses.jsonl",
    "summary.json",
    "failure.txt",
    LOG_FILE,
    "failed_batch",
    "failed_texts",
    "checkpoints",
    "evaluations",
    "trec",
    "solutions",
    "policy",
    "tensorboard",
    CONFIG_FOLDER,
)
"""What a run writes into its folder; a new start removes it. The count of looks at the test split
outlives a new start."""

_RUN_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}")
_CHECKPOINT = re.compile(r"(\.writing-|damaged-)?(step-)?\d+")
_HELD = {errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES}
_POLL_S = 1.0


class FolderError(ValueError):
    """A folder is in use, or what lies in it is not the run's; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Owner:
    """Who holds a lock, or held it last."""

    host: str
    pid: int
    since: str
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def owned(folder: Path, *, wait: bool, warn: Callable[[str], None]) -> Iterator[None]:
    """Own a run's folder within the context.

    A disk that refuses locks, or that gave the lock while another machine's process never released
    it, is warned about: the run goes on, and the person must see to it that it is alone.

    Args:
        folder: It exists.
        wait: Wait for another owner to end, instead of refusing.
        warn: Told where the disk does not protect the folder.

    Raises:
        FolderError: If another process owns the folder, or nothing may be written there.
    """
    try:
        file = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise FolderError(
            f"{folder} cannot be written ({error.strerror}); give a folder of your own by "
            "hydra.run.dir="
        ) from error
    with file:
        locked = _lock(file, folder, wait=wait, warn=warn)
        before, me = _owner(file), _me()
        if locked and before is not None and not before.released and before.host != me.host:
            warn(
                f"{folder} was locked by {before}, which never released it. If that process still "
                "runs, this disk does not share locks between machines: stop one of the two"
            )
        with writing(folder / LOCK_FILE):
            _note(file, me)
        try:
            yield
        finally:
            with suppress(OSError):  # a full disk: the lock goes with the process all the same
                _note(file, Owner(host=me.host, pid=me.pid, since=me.since, released=True))


def _lock(file: TextIO, folder: Path, *, wait: bool, warn: Callable[[str], None]) -> bool:
    """Take the lock; False where the disk has none."""
    said = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                warn(
                    f"the disk of {folder} refuses locks ({error.strerror}), so nothing keeps a "
                    "second process from writing there; start this run once"
                )
                return False
            owner = _owner(file)
            if not wait:
                raise FolderError(
                    f"{folder} is in use by {owner or 'another process'}; wait for it with "
                    "resume=wait, or give another hydra.run.dir"
                ) from error
            if not said:
                warn(f"{folder} is in use by {owner or 'another process'}; waiting for its end")
            said = True
            time.sleep(_POLL_S)
        else:
            return True


def _owner(file: TextIO) -> Owner | None:
    file.seek(0)
    try:
        return Owner(**json.loads(file.read()))
    except (ValueError, TypeError):
        return None  # a new file, or one that is being written


def _me() -> Owner:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(host=socket.gethostname(), pid=os.getpid(), since=now)


def _note(file: TextIO, owner: Owner) -> None:
    os.ftruncate(file.fileno(), 0)
    os.pwrite(file.fileno(), json.dumps(asdict(owner)).encode(), 0)  # nothing stays in a buffer


def run_id(folder: Path) -> str | None:
    """The id of the run that lies in a folder; None where there is none."""
    try:
        text = (folder / RUN_ID_FILE).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if _RUN_ID.fullmatch(text) else None


def new_run_id(folder: Path, digest: str) -> str:
    """Give a run its id, which stays the same in all of its sittings."""
    made = f"{digest[:8]}-{secrets.token_hex(4)}"
    replace_file(folder / RUN_ID_FILE, f"{made}\n")
    return made


def write_config(folder: Path, *, config: str, words: Sequence[str]) -> None:
    """Write a run's config as YAML, and the overrides that it was asked for with, if not yet there.

    What lies there was written by the run's first sitting; the seals of checkpoints cover it.
    """
    own = folder / CONFIG_FOLDER
    for name, text in (("overrides", yaml.safe_dump(list(words))), ("config", config)):
        if not (own / f"{name}.yaml").exists():
            replace_file(own / f"{name}.yaml", text)


def refuse_foreign(
    folder: Path, digest: str, *, anew: bool, differences: Callable[[], str] = str
) -> None:
    """Refuse a folder that holds what is not this run's; nothing is written or removed.

    Args:
        folder: May not exist yet.
        digest: Of the run that wants it.
        anew: Whether a run of another config may be removed.
        differences: What differs between that config and this one, lines for the message.

    Raises:
        FolderError: If files of a run's names lie there without a run's id, or an unfinished run of
            another config does.
    """
    if folder.exists() and not folder.is_dir():
        raise FolderError(
            f"{folder} is a file, and a run needs a folder; give another hydra.run.dir"
        )
    mine = run_id(folder)
    if mine is None:
        found = [name for name in RECORDED if os.path.lexists(folder / name)]
        if found:
            raise FolderError(
                f"{folder} holds {', '.join(found)} and no {RUN_ID_FILE}, so nothing shows that a "
                "run of rlcredit wrote it. Give another hydra.run.dir, or remove it yourself"
            )
    elif not anew and not digest.startswith(mine[:8]):
        raise FolderError(
            f"{folder} holds a run of another config (digest {mine[:8]}, this one is {digest[:8]})"
            f"{differences()}. Give that config (it is in {CONFIG_FOLDER}/overrides.yaml), another "
            "hydra.run.dir, or resume=never to remove it and start anew"
        )


def clear(folder: Path) -> None:
    """Remove the run that lies in a folder, and nothing else; links are removed, not followed."""
    if run_id(folder) is None:
        return
    for name in RECORDED:
        path = folder / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif name == "checkpoints" and path.is_dir():
            _clear_checkpoints(path)
        elif path.is_dir():
            shutil.rmtree(path)
    (folder / RUN_ID_FILE).unlink()


def _clear_checkpoints(parent: Path) -> None:
    for path in parent.iterdir():
        if _CHECKPOINT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    if not any(parent.iterdir()):
        parent.rmdir()
