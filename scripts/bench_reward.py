"""What rewards cost: segment credit beside GRPO on the same rollouts, and what is asked for.

    python -m scripts.bench_reward                    all of it
    python -m scripts.bench_reward --steps 0          only the steps on the same rollouts
    python -m scripts.bench_reward --retrievers bm25  only one retriever

The generated ESCI task at its default sizes (10 prompts, 8 rollouts each). Seconds are processor
seconds of one thread, so that others on the machine count little; the ratios are of one process,
methods taking turns.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from rlcredit.commands.schema import register
from rlcredit.estimators.utilities import Max
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.kinds import MINILM, Dtype, Role
from rlcredit.retrieval.models import load_model
from rlcredit.retrieval.vectors import VectorIndex
from rlcredit.rewards.caches import Cache
from rlcredit.rewards.ranking import Ranking, RankingReward
from rlcredit.run.job import Parts
from rlcredit.trainer.loop import Trainer
from rlcredit.types import Counts, Prompt, Randomness, Rollouts, Signals
from scripts.bench_credit import loaded
from scripts.bench_speed import store

RETRIEVERS = ("bm25", "tfidf", "lsa", "minilm")
CHEAP = ("bm25", "tfidf", "lsa")
METHODS = ("grpo", "loo", "ospo")
LIMIT = 1.15
"""A step with segment credit over a GRPO step, for retrievers without a neural encoder."""
ENCODER_LIMIT = 1.3
"""Reward seconds over those that the encoder itself takes for the same texts."""
ROUNDS = 5
ALONE = 200
"""Texts that are encoded by themselves, to compare."""
_WINDOWS = ["estimator=ospo", "estimator/value=self_normalised"]
TABLE = {
    "grpo": ["estimator=grpo"],
    "ospo, 1 segment": [*_WINDOWS, "estimator.value.max_width=1"],
    "ospo, up to 4": [*_WINDOWS, "estimator.value.max_width=4"],
    "ospo, all windows": ["estimator=ospo"],
    "prefix": ["estimator=prefix"],
    "shape, 4 candidates": ["estimator=shape", "experiment=sets"],
}
"""Rows of the cost table."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """One method's step on given rollouts."""

    reward_s: float
    credit_s: float
    update_s: float
    counts: Counts


@dataclass(frozen=True, kw_only=True, eq=False)
class Spy:
    """A reward that notes what it is asked for."""

    inner: RankingReward
    asked: list[tuple[Prompt, str]]

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> torch.Tensor:
        """Note the pairs, and get their rewards."""
        self.asked.extend(zip(prompts, texts, strict=True))
        return self.inner(prompts, texts)


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description="Cost of rewards.")
    parser.add_argument("--retrievers", default=",".join(RETRIEVERS))
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="steps of each method")
    parser.add_argument("--steps", type=int, default=10, help="of training, for the cost table")
    parser.add_argument("--table-retrievers", default="bm25")
    parser.add_argument("--cache", type=Path, default=Path("outputs/cache"))
    parser.add_argument("--out", type=Path, default=Path("outputs/bench"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    disable_progress_bar()
    set_verbosity_error()
    register()
    if chosen.rounds:
        store(chosen.out / "reward_steps.json", step_rows(chosen))
    if chosen.steps:
        store(chosen.out / "reward_costs.json", cost_rows(chosen))


def step_rows(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Steps of all methods on the same rollouts, retriever by retriever."""
    made = {name: loaded([f"estimator={name}"], cache=chosen.cache) for name in METHODS}
    job, parts = made["grpo"]
    ranking = job.reward
    assert isinstance(ranking, Ranking)
    rollouts, rollout_s = sampled(parts.trainer, chosen.rounds)
    found: list[dict[str, Any]] = []
    print("| retriever | method | evaluations | distinct | reward, s | step, s | / GRPO | bar |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in chosen.retrievers.split(","):
        _, with_index = loaded([f"retriever={name}"], cache=chosen.cache)
        bound = ranking_reward(with_index)
        rounds = chosen.rounds if name in CHEAP else min(chosen.rounds, 2)
        stages = {method: [] for method in METHODS}
        for batch in rollouts[:rounds]:
            for method, (_, own) in made.items():
                stages[method].append(step_on(own.trainer, batch, fresh(ranking, bound)))
        found += rows_of(name, stages, rollout_s)
        if name not in CHEAP:
            found += encoder_rows(bound, ranking, made["ospo"][1].trainer, rollouts[0])
    return found


def ranking_reward(parts: Parts) -> RankingReward:
    """What a search task is trained on."""
    reward = parts.trainer.scorer.reward
    assert isinstance(reward, RankingReward)
    return reward


def sampled(trainer: Trainer, number: int) -> tuple[list[Rollouts], float]:
    """Batches of rollouts, and the median seconds of sampling one."""
    batches, seconds = [], []
    for step in range(1, number + 1):
        start = time.process_time()
        batch = trainer.rollout(
            trainer.policy,
            trainer.batch_prompts(step),
            group_size=trainer.settings.group_size,
            randomness=Randomness(seed=0, step=step),
        )
        seconds.append(time.process_time() - start)
        batches.append(batch)
    return batches, median(seconds)


def fresh(ranking: Ranking, bound: RankingReward) -> RankingReward:
    """The same reward with nothing remembered."""
    return replace(ranking, cache=Cache()).bind(bound.engine.index)


def step_on(trainer: Trainer, rollouts: Rollouts, reward: RankingReward) -> Stages:
    """Score, attribute and update; each method updates a policy of its own."""
    scorer = replace(trainer.scorer, reward=reward, counts=lambda: reward.counts)
    marks = [time.process_time()]
    signals = scorer(rollouts, trainer.needs, randomness=Randomness(seed=0, step=1))
    marks.append(time.process_time())
    batch = trainer.update_batch(rollouts, trainer.estimator(signals))
    marks.append(time.process_time())
    trainer.update(rollouts, batch, 1)
    marks.append(time.process_time())
    reward_s, credit_s, update_s = (b - a for a, b in pairwise(marks))
    return Stages(reward_s=reward_s, credit_s=credit_s, update_s=update_s, counts=reward.counts)


def rows_of(name: str, stages: dict[str, list[Stages]], rollout_s: float) -> list[dict[str, Any]]:
    """A row per method, printed; sampling and the update are the same work for all of them."""
    found: list[dict[str, Any]] = []
    common_s = rollout_s + median(s.update_s for own in stages.values() for s in own)
    whole = {
        method: common_s + median(s.reward_s + s.credit_s for s in own)
        for method, own in stages.items()
    }
    for method, own in stages.items():
        ratio = whole[method] / whole["grpo"]
        reward_s = median(s.reward_s for s in own)
        asked, distinct = (
            median(getattr(s.counts, which) for s in own) for which in ("asked", "distinct")
        )
        bar = "-" if name not in CHEAP else "held" if ratio <= LIMIT else f"over {LIMIT}"
        print(
            f"| {name} | {method} | {asked:.0f} | {distinct:.0f} | {reward_s:.3f} "
            f"| {whole[method]:.3f} | {ratio:.3f} | {bar} |",
            flush=True,
        )
        rows = [asdict(stage) for stage in own]
        found.append({"retriever": name, "method": method, "ratio": ratio, "rollout_s": rollout_s})
        found[-1] |= {"rounds": rows}
    return found


def encoder_rows(
    bound: RankingReward, ranking: Ranking, trainer: Trainer, rollouts: Rollouts
) -> list[dict[str, Any]]:
    """Reward seconds beside the encoder's own, in both number formats, and what bf16 changes."""
    asked: list[tuple[Prompt, str]] = []
    values: dict[Dtype, torch.Tensor] = {}
    found: list[dict[str, Any]] = []
    own_encoder = load_model(MINILM, None, None)
    for dtype in Dtype:
        embed = Dense(dtype=dtype).embedder(Role.query)
        assert isinstance(bound.engine.index, VectorIndex), "MiniLM gives vectors"
        index = replace(bound.engine.index, embed=embed, encoding=embed.digest)
        reward = ranking.bind(index)
        asked.clear()
        scorer = replace(trainer.scorer, reward=Spy(inner=reward, asked=asked))
        start = time.process_time()
        signals = scorer(rollouts, trainer.needs, randomness=Randomness(seed=0, step=1))
        reward_s = time.process_time() - start
        texts = [text for text in dict.fromkeys(text for _, text in asked) if text]
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is Dtype.bfloat16):
            own_encoder.encode(texts, batch_size=64, show_progress_bar=False)
        own_s = time.process_time() - start
        assert signals.game is not None, "OSPO asks for coalitions"
        values[dtype] = signals.game.rewards[signals.game.evaluated]
        ratio = reward_s / own_s
        print(
            f"minilm in {dtype}: {len(texts)} distinct texts, rewards {reward_s:.2f} s, its own "
            f"batches {own_s:.2f} s, ratio {ratio:.2f} (bar {ENCODER_LIMIT})",
            flush=True,
        )
        changed, largest = alone(reward, asked)
        print(
            f"of {ALONE} rewards {changed} change, by {largest:.1e} at most, in texts encoded alone"
        )
        found.append({"changed": changed, "alone": ALONE, "largest": largest})
        found.append({"dtype": dtype, "texts": len(texts), "reward_s": reward_s, "own_s": own_s})
    change = (values[Dtype.bfloat16] - values[Dtype.float32]).double()
    largest, mean, bias = change.abs().max(), change.abs().mean(), change.mean()
    print(
        f"bfloat16 changes {ranking.measure.name} by {mean:.1e} on average ({bias:+.1e} with its "
        f"sign), {largest:.2f} at most, of {int((change != 0).sum())} of {change.numel()} rewards"
    )
    found.append({"mean": float(mean), "bias": float(bias), "largest": float(largest)})
    return found


def alone(reward: RankingReward, asked: Sequence[tuple[Prompt, str]]) -> tuple[int, float]:
    """How many rewards change where every text is encoded by itself, and by how much at most."""
    some = asked[:: max(len(asked) // ALONE, 1)][:ALONE]
    together = reward([prompt for prompt, _ in some], [text for _, text in some])
    index, ranking = reward.engine.index, Ranking(measure=reward.measure, utility=Max())
    single = torch.cat([ranking.bind(index)([prompt], [text]) for prompt, text in some])
    change = (single - together).abs()
    return int((change > 0).sum()), float(change.max())


def cost_rows(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    """Training steps of every method: what the reward is asked for, and what is computed."""
    found: list[dict[str, Any]] = []
    print(
        "| retriever | method | evaluations a response | distinct | from the cache | texts encoded "
        "| reward, s a step | / GRPO |\n|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for name in chosen.table_retrievers.split(","):
        grpo_s = 0.0
        for method, overrides in TABLE.items():
            job, parts = loaded([*overrides, f"retriever={name}"], cache=chosen.cache)
            counts, seconds = trained(parts, chosen.steps)
            grpo_s = grpo_s or seconds
            responses = chosen.steps * job.trainer.prompts_per_step * job.trainer.group_size
            encoded = counts.texts - counts.remembered_texts
            print(
                f"| {name} | {method} | {counts.asked / responses:.1f} "
                f"| {counts.distinct / counts.asked:.0%} "
                f"| {counts.remembered / counts.distinct:.1%} | {encoded} | {seconds:.3f} "
                f"| {seconds / grpo_s:.2f} |",
                flush=True,
            )
            row = {"retriever": name, "method": method, "steps": chosen.steps, "seconds": seconds}
            found.append(row | asdict(counts))
    return found


def trained(parts: Parts, steps: int) -> tuple[Counts, float]:
    """Counts of so many steps, and the median seconds of their reward stages."""
    reward = ranking_reward(parts)
    before = reward.counts
    scorer, taken = parts.trainer.scorer, []

    def timed(*given: Any, **settings: Any) -> Signals:
        start = time.process_time()
        signals = scorer(*given, **settings)
        taken.append(time.process_time() - start)
        return signals

    for number in range(1, steps + 1):
        parts.trainer.scorer = timed  # pyright: ignore[reportAttributeAccessIssue]
        parts.trainer.step(number)
    return reward.counts - before, median(taken)


if __name__ == "__main__":
    main()
