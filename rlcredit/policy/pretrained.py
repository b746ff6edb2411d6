"""What is made of a pretrained model before it is trained, and what is refused of it.

Whatever would end a run badly after hours is tried here, before its first step.
"""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

_NOISE = re.compile("drop|jitter")
"""Settings of configs that are named so make a model draw random numbers in training mode."""


def quieten(config: PreTrainedConfig) -> None:
    """Set every dropout of a model to 0, whatever its config calls it.

    Gradient checkpointing and adapters put a model into training mode, and with dropout the trainer
    would score other log-probs than the policy that sampled.
    """
    for part in (config, config.get_text_config()):
        for name, value in list(vars(part).items()):
            if _NOISE.search(name) and isinstance(value, float):
                setattr(part, name, 0.0)


def sample_plainly(model: PreTrainedModel, eos_ids: frozenset[int]) -> None:
    """Keep of a generation config its special tokens, with all tokens that end a response.

    How a run samples is the run's to say; temperatures, cut-offs and penalties that came with the
    model are not those of the policy that is trained, and some cannot be saved again.
    """
    given = model.generation_config or GenerationConfig()
    model.generation_config = GenerationConfig(
        bos_token_id=given.bos_token_id,
        eos_token_id=sorted(eos_ids),
        pad_token_id=given.pad_token_id,
    )


def try_export(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Write all of an export but its weights, into a folder that is gone afterwards.

    Raises:
        ValueError: If a part of it cannot be written.
    """
    with TemporaryDirectory(prefix="rlcredit-export-") as folder:
        try:
            model.config.save_pretrained(folder)
            if model.generation_config is not None:
                model.generation_config.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"policy.name={name} can be loaded and not be saved again, which a run does at its "
                f"end: {error}; mend the file of the model's folder that is named"
            ) from error
        assert (Path(folder) / "config.json").exists()


def refuse_tied_adapters(model: PreTrainedModel, target_modules: str) -> None:
    """Refuse adapters on one of two layers that share their weight.

    Merging them for the export adds them to both.

    Raises:
        ValueError: If input embeddings and head are one weight, and either has an adapter.
    """
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    adapted = [layer for layer in layers if isinstance(layer, BaseTunerLayer)]
    first, last = (
        layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer for layer in layers
    )
    if adapted and first is not None and last is not None and first.weight is last.weight:
        raise ValueError(
            f"policy.lora.target_modules={target_modules} puts adapters on the embeddings or the "
            f"head of a {type(model).__name__}, and the two are one weight: merged into it for the "
            "export, what was learned for the one would change the other; leave both out, as "
            "all-linear does"
        )


def refuse_unrepeatable(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that remembers more than keys and values.

    A prompt is read once and its cache repeated for every response; rows that end are dropped.

    Raises:
        ValueError: If rows of what the model remembers cannot be repeated and dropped.
    """
    reason = "its state is recurrent" if model._is_stateful else None
    if reason is None:
        token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        try:
            with torch.no_grad():
                cache = model(input_ids=token, use_cache=True).past_key_values
                cache.batch_select_indices(torch.zeros(2, dtype=torch.long, device=model.device))
        except AttributeError as error:
            reason = str(error)
    if reason is not None:
        raise ValueError(
            f"policy.name={name} is a {type(model).__name__}, and rows of what it remembers of a "
            f"prompt cannot be repeated for each response ({reason}); choose a model whose layers "
            "all are attention, not recurrent or convolutional ones"
        )
