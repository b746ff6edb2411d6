"""How long the steps of a trainer take, stage by stage, and what memory the first one needs."""

import ctypes
import gc
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rlcredit.trainer.loop import Trainer


@dataclass(kw_only=True)
class Timing:
    """Steps of one side: seconds, seconds by stage, memory above what was held before."""

    seconds: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    peak_mb: float | None = None
    """Memory in MB that the first step took above what was resident before it."""
    tokens: list[float] = field(default_factory=list)
    """Mean length of a step's responses."""

    def add(self, stage: str, seconds: float) -> None:
        """Add the seconds of a stage of one step."""
        self.stages.setdefault(stage, []).append(seconds)

    def summary(self, samples: int, *, skip: int) -> dict[str, Any]:
        """Medians, without the first ``skip`` steps."""
        counted = self.seconds[skip:]
        return {
            "steps": len(counted),
            "step_s": median(counted),
            "every_step_s": counted,
            "samples_per_s": samples / median(counted),
            "peak_mb": self.peak_mb,
            "mean_tokens": sum(self.tokens) / max(1, len(self.tokens)),
            "stages_s": {name: median(values[skip:]) for name, values in self.stages.items()},
        }


@contextmanager
def timed(timing: Timing) -> Iterator[None]:
    """Time a step; of the first one, where Linux tells, note the peak of resident memory."""
    measured = not timing.seconds and sys.platform == "linux"
    before = _resident_mb("VmRSS:") if measured and _give_back() else 0.0
    start = time.perf_counter()
    yield
    timing.seconds.append(time.perf_counter() - start)
    if measured:
        timing.peak_mb = _resident_mb("VmHWM:") - before


def _give_back() -> bool:
    """Return freed memory to the system and start the peak anew."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return True


def _resident_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def own_step(trainer: Trainer, number: int, timing: Timing) -> None:
    """One step of rlcredit."""
    with timed(timing):
        result = trainer.step(number)
    for name in ("rollout", "reward", "credit", "update"):
        timing.add(name, result.metrics[f"time/{name}_s"])
    timing.tokens.append(float(result.rollouts.response_mask.sum(2).double().mean()))


def paired_ratio(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> float:
    """Median over turns of TRL's seconds by rlcredit's; load that changes moves it least."""
    pairs = zip(theirs["every_step_s"], mine["every_step_s"], strict=True)
    return median(a / b for a, b in pairs)
