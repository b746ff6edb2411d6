"""A training state as tensors by name, whole or sharded, and back from a folder of them.

``torch.distributed.checkpoint`` names the parameters and their moments whatever wraps the model,
and gives each of any number of ranks its own part of what other ranks wrote.
"""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load as load_sharded

from rlcredit.checkpoint.folders import Checkpoint, CheckpointError, listing

WEIGHTS, MOMENTS = "model.", "optimizer."


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Trained parameters and their moments by name; views, sharded where they are sharded."""
    moments = get_optimizer_state_dict(model, optimizer, options=_flattened())
    tensors = {MOMENTS + name: value for name, value in moments.items() if _is_moment(name)}
    return {WEIGHTS + name: value for name, value in trained(model).items()} | tensors


def trained(model: nn.Module) -> dict[str, Any]:
    """The parameters that are trained, tied ones once."""
    state = get_model_state_dict(model, options=StateDictOptions(ignore_frozen_params=True))
    once = {name for name, _ in model.named_parameters()}
    return {name: value for name, value in state.items() if name in once}


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and moments into a model and its optimizer.

    Collective: every rank calls it, with whatever part of the model it holds.

    Raises:
        CheckpointError: If the model's trained parameters are not those of the checkpoint.
    """
    weights, stored = trained(model), _stored_of(checkpoint.folder, model)
    moments: dict[str, Any] = get_optimizer_state_dict(model, optimizer, options=_flattened())
    target = {WEIGHTS + name: value for name, value in weights.items()}
    target |= {MOMENTS + name: value for name, value in moments.items() if _is_moment(name)}
    absent = [name for name in target if name not in stored]
    if absent:
        raise CheckpointError(
            f"{checkpoint.folder} lacks what this optimizer keeps:\n{listing(absent)}\nUse the "
            "run's own trainer.optimizer, or resume=never to start anew"
        )
    load(checkpoint.folder, target)
    set_model_state_dict(model, weights, options=StateDictOptions(strict=False))
    set_optimizer_state_dict(model, optimizer, moments, options=_flattened())


def restore_weights(folder: Path, model: nn.Module) -> None:
    """Put the weights alone into a model; collective.

    Raises:
        CheckpointError: If the model's trained parameters are not those of the folder.
    """
    weights = trained(model)
    _stored_of(folder, model)
    load(folder, {WEIGHTS + name: value for name, value in weights.items()})
    set_model_state_dict(model, weights, options=StateDictOptions(strict=False))


def full_weights(folder: Path) -> dict[str, Tensor]:
    """The trained parameters of a checkpoint, whole, whatever number of ranks wrote it."""
    stored = shapes(folder)
    target = {
        name: torch.empty(stored[name].size, dtype=stored[name].properties.dtype)
        for name in stored
        if name.startswith(WEIGHTS)
    }
    load(folder, target)
    return {name.removeprefix(WEIGHTS): value for name, value in target.items()}


def shapes(folder: Path) -> dict[str, TensorStorageMetadata]:
    """Name, shape and number format of every tensor in a folder."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: each for name, each in found.items() if isinstance(each, TensorStorageMetadata)}


def load(folder: Path, target: dict[str, Any]) -> None:
    """Fill tensors, whole or sharded, from a folder."""
    be_quiet()
    reader = HuggingFaceStorageReader(str(folder))
    load_sharded(target, storage_reader=reader, no_dist=not dist.is_initialized())


def be_quiet() -> None:
    """Leave out the remark that there is only one process, and a log line for every tensor."""
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")
    logging.getLogger("c10d-NullHandler-dcp_logger").setLevel(logging.WARNING)


def _stored_of(folder: Path, model: nn.Module) -> dict[str, TensorStorageMetadata]:
    """What a folder holds, if its weights are those of the model by name, shape and format."""
    stored, weights = shapes(folder), trained(model)
    theirs = {
        name.removeprefix(WEIGHTS): (tuple(each.size), each.properties.dtype)
        for name, each in stored.items()
        if name.startswith(WEIGHTS)
    }
    ours = {name: (tuple(value.shape), value.dtype) for name, value in weights.items()}
    if theirs == ours:
        return stored
    lines = [
        f"{name}: {_described(theirs.get(name))} in the checkpoint, "
        f"{_described(ours.get(name))} here"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    raise CheckpointError(
        f"{folder} was written by another model:\n{listing(lines)}\nUse the run's own "
        "policy settings, or resume=never to start anew"
    )


def _described(found: tuple[tuple[int, ...], torch.dtype] | None) -> str:
    return "absent" if found is None else f"{list(found[0])} {str(found[1]).removeprefix('torch.')}"


def _is_moment(name: str) -> bool:
    """Is it a tensor of the optimizer's state? The rest are settings, which the config holds."""
    return name.startswith("state.")


def _flattened() -> StateDictOptions:
    return StateDictOptions(flatten_optimizer_state_dict=True, ignore_frozen_params=True)
