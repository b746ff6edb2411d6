"""How fast a training step is, and what share of it credit takes.

python -m scripts.bench_speed --credit
"""

import argparse
import json
import os
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from transformers.utils.logging import disable_progress_bar

from scripts.bench_credit import credit_shares, credit_table

PACKAGES = ("torch", "transformers", "trl", "accelerate")


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description="What share of a training step credit takes.")
    parser.add_argument("--credit", action="store_true", help="the share of credit in a step")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    arguments = parser.parse_args()
    if not arguments.credit:
        parser.error("say what to measure: --credit")
    torch.set_num_threads(1)
    disable_progress_bar()
    rows = credit_shares(cache=arguments.cache, say=print)
    print(credit_table(rows))
    store(arguments.out / "credit.json", [asdict(row) for row in rows])


def store(path: Path, rows: list[dict[str, object]]) -> None:
    """Write rows with what they depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"stored in {path}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
