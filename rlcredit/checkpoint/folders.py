"""Checkpoints on disk: a folder a step, whole or not there, checked, without pickle.

checkpoints/step-000025/shard-*.safetensors   trained parameters and moments, a file a rank
                        state.json            step, config, what the run carries, checksums

``checkpoint/writer.py`` writes and reads the tensors; this module knows the folders.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

FORMAT = 4
"""Version of the folder; 1 was a pair of files that one process wrote, 2 had a digest of import
paths, 3 no seal of the run's other files."""
PREFIX = "step-"
_NAME = re.compile(rf"{PREFIX}\d+")
STATE = "state.json"
MOST_LINES = 12
"""Differences that an error lists."""


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or may not be used; the message says what to do."""


class DamagedCheckpointError(CheckpointError):
    """A file of a checkpoint is missing, or is not the one that was written."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path
    step: int
    digest: str
    """Digest of the run's config."""
    identity: Mapping[str, Any]
    """The settings behind the digest, as JSON holds them."""
    carry: Mapping[str, float]
    """Numbers the run keeps besides weights and moments."""
    score: float | None
    """The validation measure at this step, where it was taken; the best one is kept."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """The seal of the run's other files as they were at this step."""

    def refuse_other(self, digest: str, identity: Mapping[str, Any]) -> None:
        """Refuse to go on with another config, and say which settings differ.

        Raises:
            CheckpointError: If the digests differ.
        """
        if digest == self.digest:
            return
        lines = differences(self.identity, plain(identity))
        raise CheckpointError(
            f"{self.folder} is of a run of another config (digest {self.digest[:8]}, this one is "
            f"{digest[:8]}):\n{listing(lines)}\nGive that config (the run's is in "
            ".hydra/overrides.yaml), another hydra.run.dir, or resume=never to remove the run and "
            "start anew"
        )


def folders(parent: Path) -> list[Path]:
    """All checkpoints, oldest first; none where there is no folder."""
    found = (path for path in parent.glob(f"{PREFIX}*") if _NAME.fullmatch(path.name))
    return sorted(path for path in found if path.is_dir())


def latest(parent: Path) -> Checkpoint | None:
    """The newest checkpoint, or None. Every byte of it is verified.

    Raises:
        DamagedCheckpointError: If a file of it is missing, or is not the one that was written.
        CheckpointError: If another version of this package wrote it.
    """
    found = folders(parent)
    return read(found[-1]) if found else None


def at_step(parent: Path, step: int) -> Checkpoint | None:
    """A checkpoint that another process has verified, by its step; None if it is not seen here.

    Raises:
        DamagedCheckpointError: If what it says of itself cannot be read.
        CheckpointError: If another version of this package wrote it.
    """
    found = [folder for folder in folders(parent) if folder.name == f"{PREFIX}{step:06d}"]
    return _checkpoint(found[0], _state(found[0])) if found else None


def latest_whole(parent: Path, *, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; damaged ones after it are renamed, not removed.

    Args:
        parent: The folder of checkpoints.
        say: Told what was set aside.

    Raises:
        CheckpointError: If there are checkpoints and none of them is whole.
    """
    damaged: list[tuple[Path, str]] = []
    for folder in reversed(folders(parent)):
        try:
            whole = read(folder)
        except DamagedCheckpointError as error:
            damaged.append((folder, str(error)))
            continue
        for bad, why in damaged:
            aside = bad.with_name(f"damaged-{bad.name}")
            if bad.exists() and not aside.exists():
                bad.rename(aside)
            say(f"{why.split(':')[0]}; it was renamed {aside.name}")
        return whole
    if damaged:
        raise CheckpointError(
            f"none of the checkpoints in {parent} is whole:\n"
            f"{listing([why for _, why in damaged])}\nGive resume=never to start anew"
        )
    return None


def read(folder: Path) -> Checkpoint:
    """What a checkpoint says of itself, once its files are found to be those that were written.

    Raises:
        DamagedCheckpointError: If a file is missing, truncated or changed.
        CheckpointError: If another version of this package wrote it.
    """
    state = _state(folder)
    bad = _changed(folder, state)
    if bad:
        raise DamagedCheckpointError(_damaged(folder, f"{', '.join(bad)} is not what was written"))
    return _checkpoint(folder, state)


def _state(folder: Path) -> dict[str, Any]:
    """What ``state.json`` says, its own checksum verified.

    Raises:
        DamagedCheckpointError: If the file is missing, truncated or changed.
        CheckpointError: If another version of this package wrote it.
    """
    try:
        state = msgspec.json.decode((folder / STATE).read_bytes(), type=dict[str, Any])
    except (OSError, ValueError) as error:
        raise DamagedCheckpointError(_damaged(folder, f"{STATE}: {error}")) from error
    if state.get("format", 1) != FORMAT:
        raise CheckpointError(
            f"{folder} has format {state.get('format', 1)}, and this version of rlcredit reads "
            f"format {FORMAT}; go on with the version that wrote it (code_revision in the run's "
            "summary.json), or give resume=never to start anew"
        )
    if state.pop("check", None) != checksum(state):
        raise DamagedCheckpointError(_damaged(folder, f"{STATE} is not what was written"))
    return state


def _checkpoint(folder: Path, state: Mapping[str, Any]) -> Checkpoint:
    return msgspec.convert({"folder": folder, **state}, Checkpoint)


def best_score(parent: Path) -> float | None:
    """The highest score of the checkpoints that are there; None if none has one."""
    scores = [score for score in map(_score, folders(parent)) if score is not None]
    return max(scores, default=None)


def superseded(parent: Path, *, keep: int) -> list[Path]:
    """All but the last ``keep`` and the one of the highest score (the first of equal ones)."""
    found = folders(parent)
    scored = [(score, folder) for folder in found if (score := _score(folder)) is not None]
    best = max(scored, key=lambda pair: pair[0])[1] if scored else None
    return [folder for folder in found[:-keep] if folder != best]


def _score(folder: Path) -> float | None:
    """Read without verifying: a damaged checkpoint has no score, and is refused when it is used."""
    try:
        score = msgspec.json.decode((folder / STATE).read_bytes(), type=dict[str, Any]).get("score")
    except (OSError, ValueError):
        return None
    return score if isinstance(score, float) else None


def sums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of tensors."""
    return {path.name: _sum(path) for path in sorted(folder.glob("*.safetensors"))}


def checksum(state: Mapping[str, Any]) -> str:
    """SHA-256 of a checkpoint's state, its own entry left out."""
    return sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """Make plain values of settings, as JSON gives them back."""
    return json.loads(json.dumps(value, sort_keys=True, default=str))


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Every setting that differs, a line each, with both values."""
    left, right = dict(_flat(theirs)), dict(_flat(ours))
    pairs = {
        key: (left.get(key, "not set"), right.get(key, "not set"))
        for key in sorted(left.keys() | right.keys())
    }
    return [
        f"{key}: {before} in the checkpoint, {now} here"
        for key, (before, now) in pairs.items()
        if before != now
    ]


def listing(lines: list[str]) -> str:
    """The first lines of a list, indented, and how many are left out."""
    shown = [f"  {line}" for line in lines[:MOST_LINES]]
    more = len(lines) - MOST_LINES
    return "\n".join([*shown, *([f"  and {more} more"] if more > 0 else [])])


def _flat(node: Any, path: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, Mapping) or not node:
        return [(path, node)]
    return [
        leaf
        for key, value in node.items()
        for leaf in _flat(value, f"{path}.{key}" if path else str(key))
    ]


def _changed(folder: Path, state: Mapping[str, Any]) -> list[str]:
    written, found = state["sha256"], sums(folder)
    return [
        name
        for name in sorted(written.keys() | found.keys())
        if written.get(name) != found.get(name)
    ]


def _sum(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _damaged(folder: Path, why: str) -> str:
    return (
        f"the checkpoint {folder} is damaged: {why}. Give resume=previous to go on from the newest "
        "whole one before it (the damaged one is renamed), or resume=never to start anew"
    )
