"""What is kept of a batch on which a run had to stop."""

import json
from dataclasses import fields
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from rlcredit.trainer.loop import NonFiniteError
from rlcredit.types import Rollouts, UpdateBatch


def save_batch(folder: Path, error: NonFiniteError) -> Path:
    """Write the tensors of a batch as safetensors and its texts as JSON; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = _tensors("batch", error.batch) | _tensors("rollouts", error.rollouts)
    save_file(tensors, folder / "batch.safetensors")
    groups = [
        {"prompt_id": prompt.prompt_id, "prompt": prompt.text, "responses": list(texts)}
        for prompt, texts in zip(error.rollouts.prompts, error.rollouts.texts, strict=True)
    ]
    record = {"why": str(error), "groups": groups}
    (folder / "batch.json").write_text(json.dumps(record, indent=1, ensure_ascii=False))
    return folder


def _tensors(prefix: str, record: UpdateBatch | Rollouts) -> dict[str, Tensor]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {
        f"{prefix}.{name}": value.detach().cpu().contiguous().clone()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
