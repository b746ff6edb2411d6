"""Part g: the bench of credit at the size of a language model, replicate by replicate.

``scripts/bench_gradient.py`` says what is compared; here 64 prompts have 64 responses each, on the
GPU. A replicate is a file, and a call goes on behind those that are there.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from scripts.bench_gradient import ESTIMATORS, Bench, Replicates, page, prepared
from scripts.gpu_record import Check, Finding, Record, SkippedError, Status
from scripts.gpu_table import fetch_weights

WORDS = (
    *("experiment=smollm2_esci", "size=gpu", "dataset.path=data/esci"),
    *("trainer.prompts_per_step=64", "trainer.group_size=64"),
)
TINY_WORDS = (
    *(
        "policy.num_layers=1",
        "policy.hidden_size=32",
        "policy.warm_start.steps=40",
        "policy.warm_start.lr=1e-2",
    ),
    *("rollout.max_new_tokens=12", "trainer.prompts_per_step=3", "trainer.group_size=4"),
)
REPLICATES, TINY_REPLICATES = 32, 2
SHOWN = 8
"""Replicates after which all errors are estimated anew."""
LOADING_S, REPLICATE_S = 60.0, 15.0
MISS = 0.1
"""Directions whose squared lengths miss by more are too few."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One call: the bench is made once, by the first check that needs it."""

    record: Record
    tiny: bool
    bundles: Path

    @property
    def names(self) -> tuple[str, ...]:
        """Estimators, the reference first."""
        return ("rloo", "dr_grpo", "loo") if self.tiny else ESTIMATORS

    @cached_property
    def made(self) -> tuple[Bench, Replicates]:
        """The policy after its warm start, and the folder of replicates.

        Raises:
            SkippedError: If parts of its weights, or the published files, are missing.
        """
        fetch_weights(self.bundles)
        if not self.tiny and not any(Path("data/esci").glob("*.parquet")):
            raise SkippedError("data/esci has no published files; pack them with --esci")
        words = [*(TINY_WORDS if self.tiny else WORDS), f"trainer.device={self.record.device}"]
        folder = self.record.folder
        return prepared(words, self.names, cache=folder / "cache", out=folder / "gradients")

    def directions(self) -> Finding:
        """Whether the directions along which gradients are read keep lengths and angles."""
        misses = self.made[0].projection_error(3 if self.tiny else 4)
        held = misses["squared length"] < MISS
        return Finding(status=Status.passed if held else Status.failed, values=misses)

    def replicate(self, number: int) -> Finding:
        """One group of responses for each prompt, credited by all estimators."""
        bench, replicates = self.made
        if not replicates.path(number).exists():
            replicates.write(number, *bench.replicate(number))
        costs = replicates.costs(number)
        return Finding(
            status=Status.measured,
            values={f"s of {name}": cost.seconds for name, cost in costs.items()},
        )

    def errors(self, count: int) -> Finding:
        """All estimators beside the reference, by as many replicates, into ``gradients.md``.

        Raises:
            SkippedError: If as many do not tell the true gradient from noise.
        """
        _, replicates = self.made
        try:
            text, found = page(replicates, count, self.names)
        except ValueError as error:  # too few
            raise SkippedError(str(error)) from error
        (replicates.folder / "gradients.md").write_text(text)
        return Finding(status=Status.measured, values=dict(found))


def checks(record: Record, *, tiny: bool, bundles: Path) -> list[Check]:
    """The directions, every replicate, and the errors after some of them."""
    sitting = Sitting(record=record, tiny=tiny, bundles=bundles)
    made = [Check(name="directions", look=sitting.directions, estimate_s=0 if tiny else LOADING_S)]
    for number in range(1, (TINY_REPLICATES if tiny else REPLICATES) + 1):
        look = partial(sitting.replicate, number)
        estimate = 0 if tiny else REPLICATE_S
        made.append(Check(name=f"replicate {number}", look=look, estimate_s=estimate))
        if number % (TINY_REPLICATES if tiny else SHOWN) == 0:
            look = partial(sitting.errors, number)
            made.append(Check(name=f"errors by {number} replicates", look=look))
    return made
