"""Checks on one GPU, in parts that end by themselves; run by ``scripts/gpu_check.sh``.

    --part a     is what is computed right?
    --part b     how fast is it?
    --part c     the GPU block of the table of the pretrained model, job by job
    --part g     the bench of credit at the size of a language model

A part writes what it finds as it finds it, most important first, and a second call goes on with
what is missing. ``--device cpu --tiny`` goes every way but the kernels.
"""

import argparse
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rlcredit.run.device import refuse_absent
from scripts.gpu_record import NOT_RUN, Finding, Record, Status

PARTS = {
    "a": "scripts.gpu_correct",
    "b": "scripts.gpu_speed",
    "c": "scripts.gpu_table",
    "g": "scripts.gpu_credit",
}
"""Modules with ``checks(record, tiny=, bundles=)``."""
LIMIT_S = 225.0
"""Seconds of a part, the loading of packages before it left out."""


def main() -> int:
    """The command line; how many checks failed."""
    parser = argparse.ArgumentParser(description="Checks on one GPU.")
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the ways")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds")
    parser.add_argument("--out", type=Path, default=Path("outputs/gpu_check"))
    parser.add_argument("--bundles", type=Path, default=Path(".gpu"))
    parser.add_argument("--only", default="", help="checks whose name holds this")
    chosen = parser.parse_args()
    disable_progress_bar()
    set_verbosity_error()
    device = refuse_absent(chosen.device)
    record = Record(folder=chosen.out, part=chosen.part, device=device, limit_s=chosen.limit)
    if device.type != "cuda":
        print(f"this is the processor: what is measured here is {NOT_RUN}")
    name = PARTS[chosen.part]
    if find_spec(name) is None:
        record.add(f"part {chosen.part}", _absent(chosen.part), 0.0)
        return 0
    torch.set_float32_matmul_precision("highest")
    made = import_module(name).checks(record, tiny=chosen.tiny, bundles=chosen.bundles)
    record.run([check for check in made if chosen.only in check.name])
    return record.failed


def _absent(part: str) -> Finding:
    return Finding(status=Status.skipped, note=f"part {part} is not part of this bundle")


if __name__ == "__main__":
    raise SystemExit(main())
