"""Which estimator's gradient has the least error on a language model, at equal cost?

    python -m scripts.bench_gradient --out outputs/gradient experiment=smollm2_esci size=cpu

Words behind the options are those of train.py; they say which policy writes and what it is rewarded
for. Each replicate is one group of responses for each of the same prompts. All estimators see the
same groups. The gradient that each of them gives is read along fixed random directions
(``rlcredit/bench/directions.py``) and compared with that of RLOO, which is unbiased, over halves of
the replicates (``rlcredit/bench/sampled.py``). A replicate is a file; the command goes on where it
was stopped, with more ``--replicates`` too.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from rlcredit.bench.compare import BUDGET, Resampler, less
from rlcredit.bench.directions import Directions
from rlcredit.bench.sampled import SampledComparison, compare_sampled
from rlcredit.commands.build import estimator_config
from rlcredit.commands.components import build
from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.schema import register
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.lines import with_interval
from rlcredit.evaluation.stats import Interval
from rlcredit.files import replace_file
from rlcredit.identity import digest
from rlcredit.report.sheets import Sheet, sheet_markdown
from rlcredit.rollout.observe import observe
from rlcredit.trainer.backward import rows_of
from rlcredit.trainer.loop import Trainer
from rlcredit.types import Prompt, Randomness, Rollouts, UpdateBatch
from scripts.bench_credit import loaded

REFERENCE = "rloo"
ESTIMATORS = (
    *(REFERENCE, "grpo", "dr_grpo", "maxk", "otb", "loo", "ospo", "vine", "random_credit"),
    "scar:value=myerson",
)
EVERY = 8
"""Replicates after which the page is written anew."""
UNITS = ("responses", "rewards", "seconds")
BASE = ("estimator=grpo", "loss=dr_grpo", "trainer.max_advantage=null")
"""One loss for all, whose denominator is no matter of what was drawn; no advantage is clamped."""


@dataclass(kw_only=True)
class Cost:
    """What an estimator's gradient of one replicate took."""

    responses: float = 0.0
    """Sampled ones; a continuation counts as the share of tokens that it is of a response."""
    rewards: float = 0.0
    seconds: float = 0.0

    @contextmanager
    def clock(self, device: torch.device) -> Iterator[None]:
        """Add the seconds of what is done meanwhile, see :func:`now`."""
        start = now(device)
        yield
        self.seconds += now(device) - start


def now(device: torch.device) -> float:
    """Seconds of the processor; with a GPU, by the clock, once the GPU has done its work."""
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all replicates share."""

    trainer: Trainer
    estimators: Mapping[str, AdvantageEstimator]
    prompts: Sequence[Prompt]
    directions: Directions
    seed: int

    @property
    def device(self) -> torch.device:
        """Where the policy computes."""
        return self.trainer.policy.model.device

    def replicate(self, number: int) -> tuple[dict[str, torch.Tensor], dict[str, Cost]]:
        """Gradients and costs of one group for each prompt, by estimator."""
        randomness = Randomness(seed=self.seed, step=number)
        shared = Cost()
        with shared.clock(self.device):
            rollouts = self.trainer.rollout(
                self.trainer.policy,
                self.prompts,
                group_size=self.trainer.settings.group_size,
                randomness=randomness,
                spans=True,
            )
        shared.responses = float(rollouts.response_mask.shape[:2].numel())
        batches: dict[str, UpdateBatch] = {}
        costs: dict[str, Cost] = {}
        for name, estimator in self.estimators.items():
            costs[name] = Cost(responses=shared.responses, seconds=shared.seconds)
            batches[name] = self._credited(estimator, rollouts, randomness, costs[name])
        return self._gradients(rollouts, batches, costs), costs

    def _credited(
        self, estimator: AdvantageEstimator, rollouts: Rollouts, randomness: Randomness, cost: Cost
    ) -> UpdateBatch:
        """What the loss reads of the estimator's advantages."""
        trainer, needs = self.trainer, estimator.needs | self.trainer.loss.needs
        with cost.clock(self.device):
            seen = observe(
                trainer.policy,
                rollouts,
                needs,
                rollout=trainer.rollout,
                scorer=trainer.scorer,
                randomness=randomness,
                offset=0,
                chunks=trainer.microbatches(rollouts),
            )
            signals = trainer.scorer(rollouts, needs, randomness=randomness, offset=0, seen=seen)
            batch = trainer.update_batch(rollouts, estimator(signals))
        cost.rewards = float(signals.num_evaluations)
        if seen.continuations is not None:
            own = float(rollouts.response_mask.sum())
            cost.responses *= 1 + seen.continuations.num_tokens / own
        return batch

    def _gradients(
        self,
        rollouts: Rollouts,
        batches: Mapping[str, UpdateBatch],
        costs: Mapping[str, Cost],
    ) -> dict[str, torch.Tensor]:
        """[D] by estimator: one forward pass for all of them, prompt by prompt."""
        found = {name: torch.zeros(self.directions.size, dtype=torch.float64) for name in batches}
        size, forward, last = rollouts.response_ids.shape[1], Cost(), list(batches)[-1]
        policy, loss = self.trainer.policy, self.trainer.loss
        with self.directions.attached(policy.model):
            for start in range(0, len(rollouts.prompts) * size, size):
                rows = slice(start, start + size)
                with forward.clock(self.device):
                    scored = policy.logprobs(rollouts, rows).logprobs
                for name, batch in batches.items():
                    part = rows_of(batch, rows)
                    logprobs = scored.view(part.response_mask.shape)
                    with costs[name].clock(self.device):
                        value = loss(logprobs, replace(part, old_logprobs=logprobs.detach())).value
                        found[name] += self.directions.gradient(value, more=name != last).cpu()
        for cost in costs.values():
            cost.seconds += forward.seconds
        return found

    def projection_error(self, groups: int = 4) -> dict[str, float]:
        """How far the directions miss: inner products of whole gradients against theirs.

        Of as many prompts' groups, sampled and credited as the reference is: the root mean square
        error of squared lengths, over the lengths, and of cosines between groups.
        """
        prompts = self.prompts[:groups]
        part = replace(self, prompts=prompts)
        randomness = Randomness(seed=self.seed, step=0)
        size = self.trainer.settings.group_size
        rollouts = self.trainer.rollout(
            self.trainer.policy, prompts, group_size=size, randomness=randomness, spans=True
        )
        batch = part._credited(self.estimators[REFERENCE], rollouts, randomness, Cost())
        whole, seen = [], []
        for start in range(0, groups * size, size):
            rows = slice(start, start + size)
            whole.append(self._whole(rollouts, batch, rows))
            with self.directions.attached(self.trainer.policy.model):
                seen.append(self.directions.gradient(self._value(rollouts, batch, rows)))
        exact, read = (torch.stack(each).double() for each in (whole, seen))
        return _misses(exact @ exact.T, read @ read.T)

    def _value(self, rollouts: Rollouts, batch: UpdateBatch, rows: slice) -> torch.Tensor:
        part = rows_of(batch, rows)
        scored = self.trainer.policy.logprobs(rollouts, rows).logprobs
        logprobs = scored.view(part.response_mask.shape)
        return self.trainer.loss(logprobs, replace(part, old_logprobs=logprobs.detach())).value

    def _whole(self, rollouts: Rollouts, batch: UpdateBatch, rows: slice) -> torch.Tensor:
        """The gradient of the layers' weights themselves, in the order of the layers."""
        weights = [layer.weight for layer in self.directions.offsets]
        grads = torch.autograd.grad(self._value(rollouts, batch, rows), weights)
        return torch.cat([grad.flatten() for grad in grads])


def _misses(exact: torch.Tensor, read: torch.Tensor) -> dict[str, float]:
    def cosines(products: torch.Tensor) -> torch.Tensor:
        lengths = products.diagonal().sqrt()
        return products / lengths[:, None] / lengths

    others = ~torch.eye(len(exact), dtype=torch.bool)
    length = (read.diagonal() / exact.diagonal() - 1).square().mean().sqrt()
    angle = (cosines(read) - cosines(exact))[others].square().mean().sqrt()
    return {"squared length": float(length), "cosine": float(angle)}


@dataclass(frozen=True, kw_only=True)
class Replicates:
    """Files of replicates, one each, in a folder of one bench."""

    folder: Path
    key: str
    """Hash of all that a replicate depends on besides its number."""

    def path(self, number: int) -> Path:
        """Where a replicate lies."""
        return self.folder / f"replicate-{number:04d}.safetensors"

    def write(
        self, number: int, gradients: Mapping[str, torch.Tensor], costs: Mapping[str, Cost]
    ) -> None:
        """Write one, whole or not at all."""
        known = {"key": self.key, "costs": json.dumps({n: asdict(c) for n, c in costs.items()})}
        temporary = self.path(number).with_suffix(".tmp")
        save_file({n: g.float() for n, g in gradients.items()}, temporary, metadata=known)
        temporary.replace(self.path(number))

    def costs(self, number: int) -> dict[str, Cost]:
        """What one took, by estimator.

        Raises:
            ValueError: If it is of another bench.
        """
        with safe_open(self.path(number), framework="pt") as file:
            known = file.metadata()
        if known.get("key") != self.key:
            raise ValueError(
                f"{self.path(number)} was made with other settings; give --out another folder"
            )
        return {name: Cost(**cost) for name, cost in json.loads(known["costs"]).items()}

    def gradients(self, numbers: Sequence[int], name: str) -> np.ndarray:
        """[N, D] of one estimator."""
        rows = []
        for number in numbers:
            with safe_open(self.path(number), framework="pt") as file:
                rows.append(file.get_tensor(name).double().numpy())
        return np.stack(rows)


def page(
    replicates: Replicates, count: int, names: Sequence[str]
) -> tuple[str, Mapping[str, object]]:
    """Every estimator against the reference, as Markdown and as plain values."""
    numbers = range(1, count + 1)
    costs = [replicates.costs(number) for number in numbers]
    reference = replicates.gradients(numbers, REFERENCE)
    resampler, found = Resampler(count), {}
    for name in names:
        spent = {
            unit: float(np.mean([getattr(each[name], unit) for each in costs])) for unit in UNITS
        }
        own = reference if name == REFERENCE else replicates.gradients(numbers, name)
        found[name] = compare_sampled(own, reference, resampler, costs=spent), spent
    figures, gaps = _figures(found), _gaps(found)
    record = {
        name: {"costs": spent, **{f: _bounds(getattr(c, f)) for f in FIGURES}}
        | {f"error per {BUDGET} {u}": _bounds(c.errors[u]) for u in UNITS}
        for name, (c, spent) in found.items()
    }
    return sheet_markdown(figures) + "\n\n" + sheet_markdown(gaps) + "\n", record


FIGURES = ("scale", "cosine", "bias", "variance")


def _bounds(figure: Interval) -> list[float | None]:
    return [figure.mean, figure.low, figure.high]


Found = Mapping[str, tuple[SampledComparison, Mapping[str, float]]]


def _figures(found: Found) -> Sheet:
    head = ("estimator", *FIGURES, *(f"{unit} of a replicate" for unit in UNITS))
    rows = [
        (
            name,
            *(with_interval(getattr(compared, figure)) for figure in FIGURES),
            *(f"{spent[unit]:.1f}" for unit in UNITS),
        )
        for name, (compared, spent) in found.items()
    ]
    return Sheet(title="Gradients beside RLOO's", head=head, rows=tuple(rows))


def _gaps(found: Found) -> Sheet:
    """Errors at equal cost, and what they are less than the reference's, in pairs."""
    reference = found[REFERENCE][0]
    head = (
        "estimator",
        *(f"per {BUDGET} {u}{w}" for u in UNITS for w in ("", f", less {REFERENCE}'s")),
    )
    rows = [
        (
            name,
            *(
                cell
                for unit in UNITS
                for cell in (
                    with_interval(compared.errors[unit]),
                    with_interval(less(compared.errors[unit], reference.errors[unit]), sign=True),
                )
            ),
        )
        for name, (compared, _) in found.items()
    ]
    return Sheet(title="Mean squared error at the best rate", head=head, rows=tuple(rows))


def main() -> None:
    """Draw the replicates that are not there, compare, write the page."""
    parser = argparse.ArgumentParser(description="Errors of estimators on a language model.")
    parser.add_argument("words", nargs="*", help="as for train.py")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench_gradient"))
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--replicates", type=int, default=32)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument(
        "--estimators", default=",".join(ESTIMATORS), help="names, with parts: scar:value=myerson"
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    names = list(dict.fromkeys([REFERENCE, *chosen.estimators.split(",")]))
    words = [
        *chosen.words,
        f"trainer.prompts_per_step={chosen.prompts}",
        f"trainer.group_size={chosen.group_size}",
    ]
    made = prepared(words, names, cache=chosen.cache, out=chosen.out, seed=chosen.seed)
    run(*made, chosen.replicates, names)


def prepared(
    words: Sequence[str], names: Sequence[str], *, cache: Path, out: Path, seed: int = 0
) -> tuple[Bench, Replicates]:
    """A bench of the run that ``train.py <words>`` would be, and the folder of its replicates."""
    register()
    job, parts = loaded([*words, *BASE], cache=cache)
    with composing(conf_folder()):
        estimators = {name: estimator_of(name) for name in names}
    bench = Bench(
        trainer=parts.trainer,
        estimators=estimators,
        prompts=parts.trainer.batch_prompts(1),
        directions=Directions.of(parts.trainer.policy.model, seed=seed),
        seed=seed,
    )
    out.mkdir(parents=True, exist_ok=True)
    key = digest({"run": job.digest, "estimators": list(names), "seed": seed})
    return bench, Replicates(folder=out, key=key)


def estimator_of(name: str) -> AdvantageEstimator:
    """An estimator by its file's name; behind colons, choices of its parts (``:value=myerson``)."""
    chosen, *parts = name.split(":")
    return build(estimator_config(chosen, [f"estimator/{part}" for part in parts])[0])


def run(bench: Bench, replicates: Replicates, count: int, names: Sequence[str]) -> None:
    """Draw what is missing, one file each; write the page after every eighth replicate."""
    misses = bench.projection_error(min(4, len(bench.prompts)))
    told = ", ".join(f"{what} {error:.1%}" for what, error in misses.items())
    print(f"directions: root mean square error of {told}", flush=True)
    for number in range(1, count + 1):
        if replicates.path(number).exists():
            replicates.costs(number)
            continue
        start = time.monotonic()
        replicates.write(number, *bench.replicate(number))
        print(f"[{number}/{count}] {time.monotonic() - start:.0f} s", flush=True)
        if number % EVERY == 0:
            write_page(replicates, number, names, misses)
    write_page(replicates, count, names, misses)


def write_page(
    replicates: Replicates, count: int, names: Sequence[str], misses: Mapping[str, float]
) -> None:
    """``gradients.md`` and ``gradients.json``, of the replicates so far."""
    try:
        text, found = page(replicates, count, names)
    except ValueError as error:
        print(f"no page yet: {error}", flush=True)
        return
    record = {"replicates": count, "directions": misses, "estimators": found}
    replace_file(replicates.folder / "gradients.md", text)
    replace_file(replicates.folder / "gradients.json", json.dumps(record, indent=1) + "\n")
    print(replicates.folder / "gradients.md", flush=True)


if __name__ == "__main__":
    main()
