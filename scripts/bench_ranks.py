"""A step of several processes beside the same step of one, in turns, on the same machine."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from rlcredit.distributed.launcher import Start, start_processes
from rlcredit.distributed.world import Payload, World
from rlcredit.run.launch import no_sentence
from scripts.bench_timing import Timing, own_step, paired_ratio
from scripts.bench_work import Work, own_trainer

WAIT_S = 3600.0


def ranks(work: Work, sizes: Sequence[int], *, steps: int) -> list[dict[str, Any]]:
    """Print and return a row for each number of processes and each way of holding the weights.

    Raises:
        ValueError: If there are more processes than prompts in a step.
        RankError: If a process fails.
    """
    print("| processes | step alone, s | alone / together | rollout | update | peak MB a process |")
    print("|---|---|---|---|---|---|")
    rows = []
    for size in sizes:
        World(size=size).parts(work.prompts_per_step)
        with tempfile.TemporaryDirectory() as folder:
            start = Start(processes=size, device="cpu", timeout_s=WAIT_S)
            place = Path(folder) / "found.json"
            start_processes(take_turns, (work, steps, place), start, explain=no_sentence)
            found: dict[str, dict[str, Any]] = json.loads(place.read_text())
        rows += [
            _printed(size, name, found) | {"work": asdict(work)}
            for name in found
            if size == 1 or name != "alone"
        ]
    return rows


def take_turns(work: Work, steps: int, place: Path, *, world: World) -> None:
    """In each process: the first one's step alone, then steps of all, one after another.

    The others sleep in an exchange while one works alone. The first step is not counted.
    """
    torch.set_num_threads(1)
    model = work.model()
    arms = {"alone": own_trainer(work, model), "ddp": own_trainer(work, model, world=world)}
    if world.size > 1:
        arms["fsdp"] = own_trainer(work, model, world=world, sharded=True)
    else:
        del arms["ddp"]
    timings = {name: Timing() for name in arms}
    for number in range(1, steps + 2):
        for name, trainer in arms.items():
            world.wait()
            if name != "alone" or world.leads:
                own_step(trainer, number, timings[name])
    samples = work.prompts_per_step * work.group_size
    mine = {
        name: timing.summary(samples, skip=1) for name, timing in timings.items() if timing.seconds
    }
    payloads = world.gather(Payload(tensors={}, notes=mine))
    if world.leads:
        for name, row in mine.items():
            row["peak_mb_of_each"] = [
                each.notes[name]["peak_mb"]  # pyright: ignore[reportIndexIssue] from JSON
                for each in payloads
                if name in each.notes
            ]
        place.write_text(json.dumps(mine))


def _printed(size: int, name: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row of the table; ratios are of neighbouring steps, or of medians of a stage."""
    one, row = found["alone"], found[name]
    ratio = paired_ratio(one, row)
    stages = [one["stages_s"][each] / row["stages_s"][each] for each in ("rollout", "update")]
    peak = max((each for each in row["peak_mb_of_each"] if each is not None), default=None)
    print(
        f"| {size} {name} | {median(one['every_step_s']):.2f} | {ratio:.2f} | {stages[0]:.2f} "
        f"| {stages[1]:.2f} | {'-' if peak is None else f'{peak:.0f}'} |",
        flush=True,
    )
    return {"processes": size, "arm": name, "ratio": ratio, "measured": row}
