"""Vectors on disk, under names that are content hashes."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import xxhash
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rlcredit.files import whole_file
from rlcredit.retrieval.damaged import set_aside

_log = logging.getLogger(__name__)

_PART = 4096
"""Rows that are made and kept together."""
_SECONDS_BETWEEN_REPORTS = 10.0


def stored_vectors(
    folder: Path, name: str, shape: tuple[int, int], make: Callable[[slice], Float[Tensor, "n D"]]
) -> Float[Tensor, "N D"]:
    """The vectors of that name, memory-mapped; made and stored where the folder has them not.

    The file appears under its name only when it is complete. Many vectors are made part by part,
    each kept as soon as it is there, so that a run that was killed is gone on with. A file that is
    truncated, or does not hold what its name promises, is set aside as ``<name>.damaged`` with a
    warning, and made again. Vectors that cannot be stored are used all the same, with a warning.

    Args:
        folder: Is created.
        name: Hash of all that the vectors depend on.
        shape: What they must have.
        make: Computes some rows of them, on any device.
    """
    path = folder / f"{name}.safetensors"
    vectors = _kept(path, name, shape)
    if vectors is not None:
        return vectors
    parts = folder / f"{name}.parts"
    vectors = torch.empty(shape)
    for rows, part in _parts(parts, name, shape, make):
        vectors[rows] = part
    if _stored(path, name, vectors):
        shutil.rmtree(parts, ignore_errors=True)
    return vectors


def _parts(
    folder: Path, name: str, shape: tuple[int, int], make: Callable[[slice], Float[Tensor, "n D"]]
) -> Iterator[tuple[slice, Float[Tensor, "n D"]]]:
    """The rows part by part: read where an earlier run kept them, else made and kept."""
    number, width = shape
    start = reported = time.monotonic()
    made, keep = 0, number > _PART
    for first in range(0, number, _PART):
        rows = slice(first, min(first + _PART, number))
        path, part_name = folder / f"{first}.safetensors", f"{name}/{first}"
        vectors = _kept(path, part_name, (rows.stop - first, width)) if keep else None
        if vectors is None:
            vectors = make(rows).cpu().contiguous()
            made += len(vectors)
            keep = keep and _stored(path, part_name, vectors)
        elif made == 0:
            _log.info("%d of %d texts were encoded by an earlier run", rows.stop, number)
        yield rows, vectors
        now = time.monotonic()
        if made and now - reported > _SECONDS_BETWEEN_REPORTS and rows.stop < number:
            left = (now - start) / made * (number - rows.stop)
            _log.info("encoded %d of %d texts, %.0f s left", rows.stop, number, left)
            reported = now


def _kept(path: Path, name: str, shape: tuple[int, int]) -> Float[Tensor, "N D"] | None:
    """What the file holds; None where it is not there or damaged."""
    try:
        if path.exists():
            return _read(path, name, shape)
    except (SafetensorError, ValueError) as error:
        set_aside(path, error)
    except OSError as error:
        _log.warning(
            "%s cannot be read (%s); what it holds is made again. Look at its permissions and "
            "disk, or set another cache=<folder>",
            path,
            error,
        )
    return None


def _stored(path: Path, name: str, vectors: Float[Tensor, "N D"]) -> bool:
    """Write the file; False, with a warning, where that fails."""
    try:
        _write(path, name, vectors)
    except OSError as error:
        _log.warning(
            "the embeddings could not be stored as %s (%s); this run goes on with them in memory, "
            "the next one computes them again. Make room there, or set another cache=<folder>",
            path,
            error,
        )
        return False
    return True


def _read(path: Path, name: str, shape: tuple[int, int]) -> Float[Tensor, "N D"]:
    with safe_open(path, framework="pt") as file:
        metadata, keys = file.metadata() or {}, set(file.keys())
        if metadata.get("name") != name or keys != {"vectors"}:
            raise ValueError(f"it holds {sorted(keys)} of {metadata.get('name')}")
        vectors = file.get_tensor("vectors")
    if tuple(vectors.shape) != shape:
        raise ValueError(f"its shape is {tuple(vectors.shape)}, not {shape}")
    if metadata.get("checksum") != _checksum(vectors):
        raise ValueError("its checksum is wrong")
    return vectors


def _write(path: Path, name: str, vectors: Float[Tensor, "N D"]) -> None:
    metadata = {"name": name, "checksum": _checksum(vectors)}
    try:
        with whole_file(path) as new:
            save_file({"vectors": vectors}, new, metadata=metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _checksum(vectors: Float[Tensor, "N D"]) -> str:
    return xxhash.xxh3_128_hexdigest(vectors.contiguous().view(-1).numpy().data)
