"""What share of a GRPO step of the generated task the credit methods take.

Two views: the mathematics alone, at stated sizes, and the credit stage of real steps. Both are
shares of the median GRPO step of the same process, since seconds differ between machines.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from rlcredit.commands.build import job
from rlcredit.commands.schema import register
from rlcredit.credit.diversity import cosine_kernel, marginal_diversity
from rlcredit.credit.owen import path_myerson_value
from rlcredit.credit.shapley import shapley_value
from rlcredit.run.job import Job, Parts, assemble
from rlcredit.types import Randomness

CONF = Path(__file__).parents[1] / "conf"
ESTIMATORS = ("grpo", "ospo", "prefix", "setpo", "lpo")
LIMIT = 0.02
"""The largest share of a GRPO step that credit may take."""
STEPS = 5
"""Steps of each estimator; the first is not counted."""


@dataclass(frozen=True, kw_only=True)
class CreditShare:
    """One row of the table."""

    name: str
    milliseconds: float
    share: float
    """Share of the median GRPO step; 0.02 is 2 %."""


def credit_shares(*, cache: Path, say: Callable[[str], None]) -> list[CreditShare]:
    """Every row; steps take the sizes of the generated ESCI task (conf/train.yaml)."""
    register()
    stages: dict[str, float] = {}
    step = 0.0
    for estimator in ESTIMATORS:
        trainer = parts(estimator, cache=cache, say=say).trainer
        metrics = [trainer.step(number).metrics for number in range(1, STEPS + 1)][1:]
        stages[f"{estimator}, credit stage"] = median(each["time/credit_s"] for each in metrics)
        if estimator == "grpo":
            step = median(each["time/step_s"] for each in metrics)
    stages |= mathematics()
    rows = [CreditShare(name="a GRPO step", milliseconds=1000 * step, share=1.0)]
    return rows + [
        CreditShare(name=name, milliseconds=1000 * seconds, share=seconds / step)
        for name, seconds in stages.items()
    ]


def parts(estimator: str, *, cache: Path, say: Callable[[str], None]) -> Parts:
    """The loaded parts of ``train.py estimator=<estimator>``, on one thread."""
    return loaded([f"estimator={estimator}"], cache=cache, say=say)[1]


def loaded(
    overrides: Sequence[str], *, cache: Path, say: Callable[[str], None] = print
) -> tuple[Job, Parts]:
    """The job that ``train.py <overrides>`` would run, and its loaded parts, on one thread."""
    common = ["trainer.threads=1", "tracker=jsonl", f"cache={cache}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=[*common, *overrides], return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        made = job(cfg)
    with TemporaryDirectory() as failures:
        return made, assemble(made, failures=Path(failures), say=say)


def mathematics() -> dict[str, float]:
    """Median seconds of the heaviest functions of the credit floor."""
    generator = Randomness(seed=0, step=0).generator("bench credit")

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    table, windows, texts = random(512, 2**10), random(512, 12, 12), random(64, 16, 384)
    return {
        "shapley_value, 512 games x 10 players": seconds(lambda: shapley_value(table)),
        "path_myerson_value, 512 games x 12 players": seconds(lambda: path_myerson_value(windows)),
        "SetPO diversity, 64 groups x 16, 384 wide": seconds(
            lambda: marginal_diversity(cosine_kernel(texts))
        ),
    }


def seconds(call: Callable[[], object], *, repeats: int = 20) -> float:
    """Median of calls after a first one."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return median(taken)


def credit_table(rows: list[CreditShare]) -> str:
    """The rows as Markdown."""
    lines = ["| what | ms | share of a GRPO step |", "|---|---|---|"]
    for row in rows:
        mark = " (over the limit)" if row.share > LIMIT and row is not rows[0] else ""
        lines.append(f"| {row.name} | {row.milliseconds:.2f} | {row.share:.2%}{mark} |")
    return "\n".join(lines)
