"""What reward.shortcut=repool gets wrong, and what it saves, beside exact rewards.

    python -m scripts.bench_shortcut
    python -m scripts.bench_shortcut --task experiment=real_esci dataset.path=data/esci

Both score the same rollouts of the warm-started policy with nothing remembered, method after
method and one after the other. Seconds are processor seconds of one thread; a ratio is of one
process. Credit is compared within responses, as the learner sees it.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rlcredit.commands.schema import register
from rlcredit.evaluation.credit_check import check_credit, segment_credit, spearman
from rlcredit.retrieval.base import Index
from rlcredit.rewards.caches import Cache
from rlcredit.rewards.engine import Counts
from rlcredit.rewards.ranking import Ranking, RankingReward, Shortcut
from rlcredit.rewards.repooled import PartCounts, RepooledReward
from rlcredit.trainer.loop import Trainer
from rlcredit.types import Randomness, Rollouts, Signals
from scripts.bench_credit import loaded
from scripts.bench_reward import ranking_reward, sampled
from scripts.bench_speed import store

METHODS = ("ospo", "loo")
"""Myerson values of all windows, and leave-one-out."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
SAME = 1e-6
"""Rewards closer than this are the same."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One batch, scored one way."""

    signals: Signals
    credit: torch.Tensor
    """[P, G, M], NaN where there is no segment."""
    truth: tuple[float, ...]
    """Rank correlation of the credit with what is true of the query, by prompt."""
    seconds: float
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Credit and coalition rewards of a shortcut beside the exact ones, over batches."""

    rho: tuple[float, ...]
    """Rank correlation within each response whose credit differs between segments in both."""
    same_best: float
    """Share of responses with one exact best segment where the shortcut's best is the same; NaN if
    none has."""
    difference: float
    """Mean absolute difference of coalitions' rewards."""
    bias: float
    changed: float
    """Share of coalitions with another reward."""


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description="Error and cost of re-pooled coalitions.")
    parser.add_argument("--task", nargs="*", default=[], help="overrides of train.py")
    parser.add_argument("--rounds", type=int, default=3, help="batches of rollouts")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/shortcut.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    set_verbosity_error()
    register()
    task = ["retriever=minilm", *chosen.task]
    made = {name: loaded([f"estimator={name}", *task], cache=chosen.cache) for name in METHODS}
    job, parts = made[METHODS[0]]
    assert isinstance(job.reward, Ranking), "the task is one of search"
    index = ranking_reward(parts).engine.index
    rollouts, _ = sampled(parts.trainer, chosen.rounds)
    print(
        "| credit | coalitions | rank correlation | its quantiles "
        f"{', '.join(f'{q:.0%}' for q in QUANTILES)} | same best | mean difference | bias "
        "| other reward | with the truth: exact, shortcut | texts encoded: exact, shortcut "
        "| not found | seconds / exact |\n|" + "---|" * 12,
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    for name, (_, own) in made.items():
        scored: dict[str, list[Scored]] = {}
        for batch in rollouts:
            for way, reward in rewards(job.reward, index).items():
                scored.setdefault(way, []).append(score(own.trainer, batch, reward))
        rows += [row(name, way, scored["exact"], scored[way]) for way in list(scored)[1:]]
    store(chosen.out, [{"task": chosen.task, **each} for each in rows])


def rewards(ranking: Ranking, index: Index) -> dict[str, RankingReward]:
    """The exact reward first, then the shortcuts; all with nothing remembered."""
    short = replace(ranking, cache=Cache(), shortcut=Shortcut.repool)
    bound = [short.bind(index) for _ in range(2)]
    assert all(isinstance(each, RepooledReward) for each in bound)
    own, ends = bound
    assert isinstance(ends, RepooledReward)
    return {
        "exact": short.exact.bind(index),
        "repool": own,
        "repool with [CLS], [SEP]": replace(ends, repool=replace(ends.repool, ends=True)),
    }


def score(trainer: Trainer, rollouts: Rollouts, reward: RankingReward) -> Scored:
    """Rewards and credit of a batch."""
    scorer = replace(trainer.scorer, reward=reward, counts=lambda: reward.counts)
    start = time.process_time()
    signals = scorer(rollouts, trainer.needs, randomness=Randomness(seed=0, step=1))
    seconds = time.process_time() - start
    advantages = trainer.estimator(signals)
    assert advantages.credit is not None, "credit is of segments"
    assert signals.segments is not None, "the scorer cuts segments"
    check = check_credit(rollouts, signals.segments, advantages)
    width = signals.segments.mask.shape[2]
    return Scored(
        signals=signals,
        credit=segment_credit(advantages.credit, signals.segments.ids, width),
        truth=tuple(check.rho.values()) if check else (),
        seconds=seconds,
        counts=reward.counts,
    )


def agreement(exact: Sequence[Scored], other: Sequence[Scored]) -> Agreement:
    """Compare response by response, and coalition by coalition."""
    rho: list[float] = []
    best: list[bool] = []
    differences: list[torch.Tensor] = []
    for one, two in zip(exact, other, strict=True):
        game, approximate = one.signals.game, two.signals.game
        assert game is not None, "the estimator asks for coalitions"
        assert approximate is not None, "the estimator asks for coalitions"
        beyond = game.evaluated.clone()
        beyond[:, :, :2] = False  # the empty coalition and everyone are exact
        differences.append((approximate.rewards - game.rewards)[beyond].double())
        rows = zip(
            one.credit.flatten(0, 1),
            two.credit.flatten(0, 1),
            game.players.flatten(0, 1),
            strict=True,
        )
        for mine, theirs, players in rows:
            usable = players & ~mine.isnan() & ~theirs.isnan()
            a, b = mine[usable].double().numpy(), theirs[usable].double().numpy()
            value = spearman(a, b)
            if value is not None:
                rho.append(value)
            if len(a) > 1 and int((a > a.max() - SAME).sum()) == 1:
                best.append(int(a.argmax()) == int(b.argmax()))
    change = torch.cat(differences)
    return Agreement(
        rho=tuple(rho),
        same_best=mean(best) if best else nan,
        difference=float(change.abs().mean()),
        bias=float(change.mean()),
        changed=float((change.abs() > SAME).double().mean()),
    )


def row(name: str, way: str, exact: Sequence[Scored], other: Sequence[Scored]) -> dict[str, Any]:
    """One line of the table, printed."""
    found = agreement(exact, other)
    coalitions = sum(each.counts.asked for each in exact) - sum(
        each.signals.rewards.numel() for each in exact
    )
    encoded, fewer = (
        sum(each.counts.texts - each.counts.remembered_texts for each in ways)
        for ways in (exact, other)
    )
    parts = [each.counts for each in other if isinstance(each.counts, PartCounts)]
    unfound = sum(each.unfound for each in parts) / max(sum(each.parts for each in parts), 1)
    ratio = sum(each.seconds for each in other) / sum(each.seconds for each in exact)
    truth = [[value for each in ways for value in each.truth] for ways in (exact, other)]
    known = ", ".join(f"{mean(values):.3f}" for values in truth) if truth[0] else "-"
    rho = np.array(found.rho or [nan])
    quantiles = np.quantile(rho, QUANTILES)
    print(
        f"| {name}, {way} | {coalitions} | {rho.mean():.3f} ({len(found.rho)} responses) "
        f"| {', '.join(f'{value:.2f}' for value in quantiles)} | {found.same_best:.0%} "
        f"| {found.difference:.4f} | {found.bias:+.4f} | {found.changed:.0%} | {known} "
        f"| {encoded}, {fewer} | {unfound:.1%} | {ratio:.2f} |",
        flush=True,
    )
    return {
        "method": name,
        "way": way,
        "agreement": asdict(found),
        "truth": truth,
        "seconds": [[each.seconds for each in ways] for ways in (exact, other)],
        "counts": [[asdict(each.counts) for each in ways] for ways in (exact, other)],
    }


if __name__ == "__main__":
    main()
