"""How fast a training step is: against TRL's on the same work, and what share of it credit takes.

    python -m scripts.bench_speed              all of it
    python -m scripts.bench_speed --credit     only credit's share
    python -m scripts.bench_speed --scaling    only how a step grows with its sizes
    python -m scripts.bench_speed --scaling vocabulary      with one of them
    python -m scripts.bench_speed --ranks 1 2 4             only what more processes bring

Every ratio is of steps that took turns on one thread (a process); seconds differ between
machines and hours. TRL's head runs over all positions on a CPU and over the response's alone on a
GPU ("compact head"); both are measured.
"""

import argparse
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rlcredit.policy.packing import Packing
from scripts.bench_credit import credit_shares, credit_table
from scripts.bench_ranks import ranks
from scripts.bench_timing import Timing, own_step
from scripts.bench_work import Work, own_trainer

PACKAGES = ("torch", "transformers", "trl", "accelerate")
PROMPT_TOKENS = (24, 128, 350)
SCALING: dict[str, tuple[dict[str, int], ...]] = {
    "base": ({},),
    "prompt": ({"prompt_tokens": 24}, {"prompt_tokens": 256}),
    "group": ({"group_size": 4}, {"group_size": 16}),
    "response": ({"max_new_tokens": 24}, {"max_new_tokens": 96}),
    "vocabulary": ({"vocab_size": 1024}, {"vocab_size": 16384}, {"vocab_size": 32768}),
}
"""What differs from 96 prompt tokens, groups of 8, 48 new tokens and a vocabulary of 4096."""
RANKS = (1, 2)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description="Speed of a training step.")
    parser.add_argument("--credit", action="store_true", help="only the share of credit in a step")
    parser.add_argument(
        "--scaling", nargs="*", choices=SCALING, help="only growth with the sizes, or with some"
    )
    parser.add_argument(
        "--ranks", nargs="*", type=int, help="only several processes: how many (1 2 unless told)"
    )
    parser.add_argument("--against-trl", action="store_true", help="only the comparison with TRL")
    parser.add_argument(
        "--steps",
        type=int,
        default=5,
        help="counted steps, against TRL (2 where its head is compact) and of several processes",
    )
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    chosen = parser.parse_args()
    if chosen.steps < 1:
        parser.error(f"--steps={chosen.steps}: at least one step must be counted")
    torch.set_num_threads(1)
    disable_progress_bar()
    set_verbosity_error()
    some = (chosen.scaling is not None, chosen.ranks is not None)
    everything = not (chosen.credit or chosen.against_trl or any(some))
    if everything or chosen.credit:
        shares = credit_shares(cache=chosen.cache, say=print)
        print(credit_table(shares), flush=True)
        store(chosen.out / "credit.json", [asdict(row) for row in shares])
    if everything or chosen.against_trl:
        store(chosen.out / "speed.json", against_trl(chosen.steps))
    if everything or some[0]:
        names = chosen.scaling or list(SCALING)
        rows = scaling([change for name in names for change in SCALING[name]])
        store(chosen.out / f"{'-'.join(['scaling', *(chosen.scaling or [])])}.json", rows)
    if everything or some[1]:
        rows = ranks(Work(prompt_tokens=96), chosen.ranks or RANKS, steps=chosen.steps)
        store(chosen.out / "ranks.json", rows)


def against_trl(steps: int) -> list[dict[str, Any]]:
    """The parity of gradients, then the table; TRL with a compact head gets fewer steps."""
    from scripts.bench_trl import Arms, gradient_parity  # TRL, which the other benches do without

    parity = gradient_parity(Work(ragged=True))
    print(f"gradient on TRL's own batch: relative difference {parity:.1e}", flush=True)
    print(SPEED_HEAD)
    rows: list[dict[str, Any]] = []
    for tokens in PROMPT_TOKENS:
        for ragged in (False, True):
            work = Work(prompt_tokens=tokens, ragged=ragged)
            first = Arms(work=work, steps=steps, warm_up=0 if rows else 1)
            rows.append(printed(first.run()))
            rows.append(printed(Arms(work=work, steps=min(2, steps), compact=True).run()))
            if not ragged:
                rows.append(printed(Arms(work=work, steps=steps, bf16=True).run()))
    return [{"gradient_parity": parity}, *rows]


SPEED_HEAD = "\n".join(
    [
        "| prompt, lengths | TRL | steps | TRL samples/s | rlcredit fp32 (of it rollout) | ratio "
        "| rlcredit bf16 update | ratio | peak MB: TRL, fp32, bf16 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
)


def printed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the comparison, as Markdown."""
    theirs, mine = row["trl_measured"], row["own_measured"]
    exact, half = mine["rlcredit fp32"], mine["rlcredit bf16"]
    share = exact["stages_s"]["rollout"] / exact["step_s"]
    peaks = ", ".join(_rounded(each["peak_mb"]) for each in (theirs, exact, half))
    print(
        f"| {row['work']} | {row['trl']} | {theirs['steps']} | {theirs['samples_per_s']:.1f} "
        f"| {exact['samples_per_s']:.1f} ({share:.0%}) | {row['ratios']['rlcredit fp32']:.2f} "
        f"| {half['samples_per_s']:.1f} | {row['ratios']['rlcredit bf16']:.2f} | {peaks} |",
        flush=True,
    )
    return row


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def scaling(
    changes: Iterable[dict[str, int]], *, base: Work | None = None, steps: int = 1
) -> list[dict[str, Any]]:
    """A step with shared prompts beside one of the padded path, as one size after another grows."""
    base = base or Work(prompt_tokens=96)
    columns = ("update: padded / shared", "rollout: padded / shared", "peak MB: padded, shared")
    print(f"| what differs | step, s | padded / shared | {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|")
    rows = []
    for change in changes:
        work = replace(base, **change)
        found = {packing: packing_timing(work, packing, steps=steps) for packing in Packing}
        shared, padded = found[Packing.shared_prefix], found[Packing.padded]
        stages = shared["stages_s"], padded["stages_s"]
        ratios = [stages[1][name] / stages[0][name] for name in ("update", "rollout")]
        what = ", ".join(f"{name} {value}" for name, value in change.items()) or "nothing"
        print(
            f"| {what} | {shared['step_s']:.2f} | {padded['step_s'] / shared['step_s']:.2f} "
            f"| {ratios[0]:.2f} | {ratios[1]:.2f} "
            f"| {_rounded(padded['peak_mb'])}, {_rounded(shared['peak_mb'])} |",
            flush=True,
        )
        rows.append({"work": asdict(work), "shared": shared, "padded": padded})
    return rows


def packing_timing(work: Work, packing: Packing, *, steps: int) -> dict[str, Any]:
    """Steps of one packing, after one that is not counted."""
    timing = Timing()
    trainer = own_trainer(work, work.model(), packing=packing)
    for number in range(1, steps + 2):
        own_step(trainer, number, timing)
    return timing.summary(work.prompts_per_step * work.group_size, skip=1)


def store(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows with what they depend on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "rows": list(rows),
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"stored in {path}", flush=True)


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
