"""Vectors on disk, under names that are content hashes."""

import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import xxhash
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_log = logging.getLogger(__name__)


def stored_vectors(
    folder: Path, name: str, shape: tuple[int, int], make: Callable[[], Float[Tensor, "N D"]]
) -> Float[Tensor, "N D"]:
    """The vectors of that name; made and stored where the folder does not have them.

    The file appears under its name only when it is complete. A file that is truncated, or does not
    hold what its name promises, is set aside as ``<name>.damaged`` with a warning, and made again.
    Vectors that cannot be stored are used all the same, with a warning.

    Args:
        folder: Is created.
        name: Hash of all that the vectors depend on.
        shape: What they must have.
        make: Computes them, on any device.
    """
    path = folder / f"{name}.safetensors"
    try:
        if path.exists():
            return _read(path, name, shape)
    except (SafetensorError, ValueError) as error:
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        _log.warning("%s is damaged (%s); set aside as %s, made anew", path, error, aside.name)
    vectors = make().cpu().contiguous()
    try:
        _write(path, name, vectors)
    except OSError as error:
        _log.warning(
            "the embeddings could not be stored as %s (%s); this run goes on with them in memory, "
            "the next one computes them again. Make room there, or set another cache=<folder>",
            path,
            error,
        )
    return vectors


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
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    os.close(handle)
    try:
        metadata = {"name": name, "checksum": _checksum(vectors)}
        save_file({"vectors": vectors}, partial, metadata=metadata)
        os.replace(partial, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    finally:
        Path(partial).unlink(missing_ok=True)


def _checksum(vectors: Float[Tensor, "N D"]) -> str:
    return xxhash.xxh3_128_hexdigest(vectors.numpy().tobytes())
