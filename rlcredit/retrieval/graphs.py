"""FAISS indexes on disk, under names that are content hashes."""

import importlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import xxhash

from rlcredit.retrieval.damaged import set_aside

_log = logging.getLogger(__name__)


def faiss() -> Any:
    """The library.

    Raises:
        RuntimeError: If it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise RuntimeError(
            "approximate search needs FAISS, which is not installed; "
            "pip install 'rlcredit[train]', or choose an exact retriever (retriever=minilm)"
        ) from error


def stored_graph(folder: Path, name: str, shape: Sequence[int], make: Callable[[], Any]) -> Any:
    """The index of that name, memory-mapped; built and stored where the folder does not have it.

    The file appears under its name only when it is complete, and its checksum stands beside it. A
    damaged file is set aside as ``<name>.damaged`` with a warning, and made again. An index that
    cannot be stored is used all the same, with a warning.

    Args:
        folder: Is created.
        name: Hash of all that the index depends on.
        shape: Documents and dimensions that it must have.
        make: Builds it; on one thread, so that the same index comes out every time.

    Raises:
        RuntimeError: If FAISS is not installed.
    """
    path = folder / f"{name}.faiss"
    try:
        if path.exists():
            return _read(path, shape)
    except (ValueError, RuntimeError, OSError) as error:
        set_aside(path, error)
    library = faiss()
    threads = library.omp_get_max_threads()
    library.omp_set_num_threads(1)
    try:
        graph = make()
    finally:
        library.omp_set_num_threads(threads)
    try:
        _write(path, graph)
    except (OSError, RuntimeError) as error:
        _log.warning(
            "the index could not be stored as %s (%s); this run goes on with it in memory, the "
            "next one builds it again. Make room there, or set another cache=<folder>",
            path,
            error,
        )
    return graph


def _read(path: Path, shape: Sequence[int]) -> Any:
    record = json.loads(path.with_suffix(".json").read_text())
    if record != {"checksum": _checksum(path)}:
        raise ValueError("its checksum is wrong")
    library = faiss()
    graph = library.read_index(str(path), library.IO_FLAG_MMAP_IFC)
    if (graph.ntotal, graph.d) != tuple(shape):
        raise ValueError(
            f"it holds {graph.ntotal} documents of {graph.d} dimensions, not {shape[0]} of "
            f"{shape[1]}"
        )
    return graph


def _write(path: Path, graph: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".partial")
    os.close(handle)
    try:
        faiss().write_index(graph, partial)
        path.with_suffix(".json").write_text(json.dumps({"checksum": _checksum(Path(partial))}))
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _checksum(path: Path) -> str:
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(2**20):
            state.update(block)
    return state.hexdigest()
