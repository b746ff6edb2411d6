"""Checkpoints: a folder a step, whole or not there, without pickle.

checkpoints/step-000025/weights.safetensors     parameters that are trained
                        optimizer.safetensors   moments, by parameter index
                        state.json              step, digest, what the run carries, checksums
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

PREFIX = "step-"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or may not be used; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    folder: Path
    step: int
    digest: str
    """Of the run's config."""
    carry: Mapping[str, float]
    """Numbers the run keeps besides weights and moments."""


def save(
    parent: Path,
    *,
    step: int,
    digest: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    carry: Mapping[str, float],
    keep: int,
) -> Checkpoint:
    """Write a checkpoint beside the older ones, then remove all but the last ``keep``.

    The folder gets its name only when everything in it is on disk, so a kill or a full disk at any
    moment leaves the previous checkpoint whole.

    Raises:
        CheckpointError: If it cannot be written.
    """
    final, temporary = parent / f"{PREFIX}{step:06d}", parent / f".writing-{step:06d}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        weights = {name: p.detach().cpu() for name, p in _trained(model).items()}
        save_file(weights, temporary / "weights.safetensors")
        save_file(_moments(optimizer), temporary / "optimizer.safetensors")
        state = {"step": step, "digest": digest, "carry": dict(carry), "sha256": _sums(temporary)}
        (temporary / "state.json").write_text(json.dumps(state, indent=1, sort_keys=True))
        for path in temporary.iterdir():
            _flush(path)
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        _flush(parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        older = [c.name for c in _folders(parent)]
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {parent}: {error}. "
            f"Whole checkpoints there: {', '.join(older) or 'none'}. Make room (or place the run "
            "elsewhere with hydra.run.dir=) and give the same command again: it goes on from there."
        ) from error
    for old in _folders(parent)[:-keep]:
        shutil.rmtree(old)
    return Checkpoint(folder=final, step=step, digest=digest, carry=dict(carry))


def latest(parent: Path) -> Checkpoint | None:
    """The newest checkpoint, or None. Its checksums are verified.

    Raises:
        CheckpointError: If a file of it is missing, or is not the one that was written.
    """
    folders = _folders(parent)
    if not folders:
        return None
    folder = folders[-1]
    try:
        state = json.loads((folder / "state.json").read_text())
        sums = _sums(folder)
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(_damaged(folder, str(error))) from error
    if state["sha256"] != sums:
        names = [name for name, value in state["sha256"].items() if sums.get(name) != value]
        raise CheckpointError(_damaged(folder, f"checksum differs: {', '.join(names)}"))
    return Checkpoint(
        folder=folder, step=state["step"], digest=state["digest"], carry=state["carry"]
    )


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and moments into a model and its optimizer.

    Raises:
        CheckpointError: If the model's trained parameters are not those of the checkpoint.
    """
    weights = load_file(checkpoint.folder / "weights.safetensors")
    trained = _trained(model)
    if {n: p.shape for n, p in trained.items()} != {n: w.shape for n, w in weights.items()}:
        differing = sorted(set(weights) ^ set(trained))[:3] or ["shapes differ"]
        raise CheckpointError(
            f"{checkpoint.folder} was written by another model ({', '.join(differing)}); "
            "use the run's own policy settings, or resume=never to start anew"
        )
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])
    moments = load_file(checkpoint.folder / "optimizer.safetensors")
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": t.cpu() for i, moments in state.items() for name, t in moments.items()}


def _folders(parent: Path) -> list[Path]:
    return sorted(parent.glob(f"{PREFIX}*"))


def _sums(folder: Path) -> dict[str, str]:
    names = ("weights.safetensors", "optimizer.safetensors")
    return {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}


def _flush(path: Path) -> None:
    """Ask the disk to hold a file's (or a folder's) content before the next step relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(folder: Path, why: str) -> str:
    return (
        f"the newest checkpoint {folder} is damaged ({why}). Remove that folder to go on from the "
        "one before it, or give resume=never to start anew"
    )
