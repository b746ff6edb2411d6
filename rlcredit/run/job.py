"""A job: everything that a run is made of, from settings to loaded parts."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from rlcredit.distributed.world import World
from rlcredit.estimators.base import AdvantageEstimator
from rlcredit.evaluation.evaluate import Evaluator
from rlcredit.evaluation.graders import Grader, Surroundings, grader_of
from rlcredit.losses.base import PolicyLoss
from rlcredit.policy.base import Policy, PolicySource
from rlcredit.policy.reference import Reference, WithoutAdapters
from rlcredit.policy.sharded import Sharded, Weights
from rlcredit.retrieval.base import Encoder, Retriever
from rlcredit.rewards.base import Reward
from rlcredit.rewards.ranking import Ranking
from rlcredit.rollout.base import Rollout
from rlcredit.run.room import check_room, with_room
from rlcredit.scoring.scorer import Scorer
from rlcredit.tasks.base import Dataset, Task
from rlcredit.tasks.players import refuse_without_players
from rlcredit.text.base import Segmenter
from rlcredit.tracking.base import Tracker
from rlcredit.trainer.loop import Trainer
from rlcredit.trainer.pairing import check_rate, types_rate
from rlcredit.trainer.settings import EvaluationSettings, Resume, TrainerSettings

SINGLE = "single"
"""Group of a run that no sweep started."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a run is made of, built but not started."""

    seed: int
    resume: Resume
    cache: Path
    digest: str
    """Digest of what changes the run's numbers."""
    identity: Mapping[str, object]
    """The settings behind the digest."""
    evaluation_digest: str
    config: Mapping[str, object]
    """Resolved, plain values; for trackers."""
    config_text: str
    """The composed config as YAML; the run writes it into its folder once."""
    words: tuple[str, ...]
    """The overrides that the run was asked for with; written beside the config."""
    dataset_name: str
    estimator_name: str
    loss_name: str
    retriever_name: str
    group: str
    """One name for all jobs of a sweep."""
    retrievers: Mapping[str, Retriever]
    """Retrievers by name; the training retriever first."""
    policy: PolicySource
    estimator: AdvantageEstimator
    loss: PolicyLoss
    dataset: Dataset[Task]
    reward: Reward | Ranking
    segmenter: Segmenter
    encoder: Encoder
    rollout: Rollout
    trainer: TrainerSettings
    trackers: tuple[Tracker, ...]
    """Mirrors of the record, and ``JSONL`` for none; the record is kept in any case."""
    evaluation: EvaluationSettings

    @property
    def name(self) -> str:
        """``esci/ospo``: data set and estimator."""
        return f"{self.dataset_name}/{self.estimator_name}"

    @property
    def swept(self) -> bool:
        """Whether it is one of the jobs of a sweep, whose table is the sweep's."""
        return self.group != SINGLE


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a job's settings become once data, indexes and policy are loaded."""

    task: Task
    trainer: Trainer
    evaluator: Evaluator
    """Grades by everything that grades the task; for the test split."""
    validator: Evaluator
    """Grades by what costs least; for curves."""


def assemble(
    job: Job, *, failures: Path, say: Callable[[str], None], world: World | None = None
) -> Parts:
    """Load data, indexes and policy, and put the parts together.

    Args:
        job: The settings.
        failures: Folder for the texts on which a retriever fails.
        say: Reports what takes long.
        world: Of this process among those of the run; None: it is alone.

    Raises:
        RankError: If another process is dead, or does not come in time.
    """
    world = world or World()
    if warning := check_rate(job.policy, job.trainer, typed=types_rate(job.words)):
        say(warning)
    with world.first_on_each_machine():  # the others find what it made in the cache
        task, grader, policy = _loaded(job, failures, say, world.device(job.trainer.device))
    world.copy_first(p for p in policy.model.parameters() if p.requires_grad)
    policy, reference = _with_reference(job, policy, world)
    scorer = Scorer(
        reward=grader.reward,
        counts=grader.counts,
        rules=task.rules,
        utility=grader.utility,
        segmenter=job.segmenter,
        encoder=job.encoder,
    )
    trainer = Trainer(
        settings=job.trainer,
        policy=policy,
        rollout=job.rollout,
        scorer=scorer,
        estimator=job.estimator,
        loss=job.loss,
        prompts=task.train,
        seed=job.seed,
        documents=grader.documents,
        reference=reference,
        world=world,
    )
    evaluator = Evaluator(
        grader=grader,
        rollout=job.rollout,
        scorer=scorer,
        estimator=job.estimator,
        samples=job.evaluation.samples,
        seed=job.seed,
    )
    return Parts(
        task=task,
        trainer=trainer,
        evaluator=evaluator,
        validator=replace(evaluator, grader=grader.for_curves()),
    )


def _with_reference(job: Job, policy: Policy, world: World) -> tuple[Policy, Reference | None]:
    """The policy as its weights are to lie, and the one it starts from, if that is asked for."""
    adapters, asked = policy.adapters, job.loss.needs.ref_logprobs
    copied = deepcopy(policy) if asked and adapters is None else None
    if job.trainer.weights is Weights.sharded:
        dtype = job.trainer.compute_dtype
        part = partial(Sharded.of, world=world, dtype=None if dtype is None else dtype.torch)
        policy, copied = part(policy), None if copied is None else part(copied)
    if asked and adapters is not None:
        return policy, WithoutAdapters(policy=policy, adapters=adapters)
    return policy, copied


def _loaded(
    job: Job, failures: Path, say: Callable[[str], None], device: torch.device
) -> tuple[Task, Grader, Policy]:
    """What takes long, or fills caches."""
    task = job.dataset.load()
    if job.estimator.needs.coalitions is not None:
        refuse_without_players(job.segmenter, task)
    surroundings = Surroundings(retrievers=job.retrievers, cache=job.cache, failures=failures)
    grader = grader_of(job.reward, task, surroundings)
    loaded = job.policy.load(task, seed=job.seed, cache=job.cache, device=device, say=say)
    policy = loaded.packed(job.trainer.packing, autocast=job.trainer.autocast, say=say)
    check_room(task, policy, job.rollout)
    task = with_room(task, policy, job.rollout, num_held_out=job.evaluation.max_prompts)
    return task, grader, policy
