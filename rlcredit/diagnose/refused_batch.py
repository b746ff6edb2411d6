"""What is kept of a batch on which a run had to stop.

failed_batch/batch.json           why, step, prompts and responses, counts
             batch.safetensors    the tensors of rollouts and update
             weights/             trained parameters at that moment, a file a rank
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rlcredit.checkpoint.writer import write_weights
from rlcredit.files import replace_file, whole_file, writing
from rlcredit.trainer.refused import Refused, RefusedBatchError
from rlcredit.types import Prompt, Rollouts, Turn, UpdateBatch

BATCH, ROLLOUTS = "batch.", "rollouts."


def save_batch(folder: Path, error: RefusedBatchError, model: nn.Module) -> Path:
    """Write a batch and the weights that it met; returns the folder.

    Collective: every rank writes what it holds of the weights, the first one the batch.

    Args:
        folder: Made, or made anew.
        error: With the batch of all ranks.
        model: As it was when the loss was taken.

    Raises:
        CheckpointError: If the weights cannot be written.
        OSError: If the batch cannot be written.
    """
    write_weights(folder / "weights", model)
    if dist.is_initialized() and dist.get_rank() != 0:
        return folder
    refused = error.refused
    tensors = _tensors(BATCH, refused.batch) | _tensors(ROLLOUTS, refused.rollouts)
    _write_tensors(folder / "batch.safetensors", tensors)
    groups = [
        {"prompt": asdict(prompt), "responses": list(texts)}
        for prompt, texts in zip(refused.rollouts.prompts, refused.rollouts.texts, strict=True)
    ]
    record = {
        "why": str(error),
        "step": refused.step,
        "update": refused.update,
        "batch": _numbers(refused.batch),
        "rollouts": _numbers(refused.rollouts),
        "groups": groups,
    }
    text = json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(folder / "batch.json", text)
    return folder


def _write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    try:
        with writing(path), whole_file(path) as new:
            save_file(tensors, new)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}); make room there") from error


def load_batch(folder: Path, *, device: torch.device) -> tuple[str, Refused]:
    """Why a run stopped, and the batch it stopped on, as :func:`save_batch` wrote them.

    Raises:
        ValueError: If the folder holds no such batch, or a file of it is damaged.
    """
    try:
        record = json.loads((folder / "batch.json").read_text())
        tensors = load_file(folder / "batch.safetensors", device=str(device))
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{folder} holds no batch to replay ({error}); give the folder failed_batch of a run "
            "that stopped on one, as batch=<folder>"
        ) from error
    prompts = [_prompt(group["prompt"]) for group in record["groups"]]
    batch = UpdateBatch(**_part(tensors, BATCH), **record["batch"])
    rollouts = Rollouts(
        prompts=tuple(prompts),
        texts=tuple(tuple(group["responses"]) for group in record["groups"]),
        **{"char_spans": None, **_part(tensors, ROLLOUTS)},
        **record["rollouts"],
    )
    refused = Refused(batch=batch, rollouts=rollouts, step=record["step"], update=record["update"])
    return record["why"], refused


def _prompt(record: dict[str, Any]) -> Prompt:
    turns = tuple(Turn(**turn) for turn in record.get("turns", ()))
    return Prompt(**record | {"pool": tuple(record["pool"]), "turns": turns})


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


def _numbers(record: UpdateBatch | Rollouts) -> dict[str, int | float]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


def _tensors(prefix: str, record: UpdateBatch | Rollouts) -> dict[str, Tensor]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {
        f"{prefix}{name}": value.detach().cpu().contiguous().clone()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
