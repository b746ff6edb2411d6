"""A run under way: its evaluations, steps, checkpoints and summary, in every process of it."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from rlcredit.checkpoint.folders import Checkpoint, CheckpointError
from rlcredit.checkpoint.state import restore
from rlcredit.checkpoint.writer import CheckpointWriter
from rlcredit.diagnose.refused_batch import save_batch
from rlcredit.distributed.world import World
from rlcredit.errors import pasted
from rlcredit.evaluation.evaluate import Evaluation
from rlcredit.evaluation.figures import compare, evaluation_metrics, intervals, truth_rho
from rlcredit.evaluation.lines import seconds
from rlcredit.evaluation.names import measure_name
from rlcredit.evaluation.on_disk import load_evaluation, save_evaluation
from rlcredit.files import replace_file
from rlcredit.policy.base import Policy
from rlcredit.run.console import RunConsole
from rlcredit.run.evidence import caveat
from rlcredit.run.export_check import NUM_COMPARED, ExportError, export, export_fault
from rlcredit.run.folder import (
    Change,
    RunSummary,
    Status,
    code_revision,
    computed_with,
    count_touches,
    touch_test_split,
)
from rlcredit.run.job import Job, Parts
from rlcredit.run.model_card import CARD_FILE, ModelCard
from rlcredit.run.ownership import run_id
from rlcredit.run.responses import COLUMNS, CompletionsFile, response_rows
from rlcredit.run.seal import EXPORTED, Sealer
from rlcredit.run.stop import StopRequest, stop_request
from rlcredit.run.watch import Watch
from rlcredit.scoring.samples import completions
from rlcredit.tracking.base import RunInfo
from rlcredit.tracking.jsonl import JSONL, JSONLRun
from rlcredit.tracking.mirror import Mirror
from rlcredit.trainer.loop import StepResult
from rlcredit.trainer.refused import RefusedBatchError


@dataclass(frozen=True, kw_only=True)
class AfterStep:
    """What happens after a step, the same in all processes."""

    saves: bool
    stop: StopRequest
    """The signal that asked a process to stop, whichever it was; without a number if none did."""

    @property
    def stops(self) -> bool:
        """Does the run end here, before its last step?"""
        return self.stop.number is not None


@dataclass(kw_only=True)
class Session:
    """A run under way, the same in every process of it.

    Every process takes every step and meets the others at the same places. What the first one does
    alone, on disk and in trackers, stands under ``if self.world.leads``, and nothing there waits
    for another process; the console of the others is silent.
    """

    job: Job
    parts: Parts
    folder: Path
    console: RunConsole
    watch: Watch = field(default_factory=Watch)
    record: JSONLRun | None = None
    """The first process's; the others have none."""
    mirrors: Sequence[Mirror] = ()
    """Of the record."""
    last_step: int | None = None
    """Step of the checkpoint that the run goes on from."""
    checkpoints: CheckpointWriter = field(init=False)
    completions: CompletionsFile = field(init=False)
    sealer: Sealer = field(init=False)
    measured: dict[str, float] = field(default_factory=dict)
    """Final measures on the test split, once they are known."""
    seconds_before: float = 0.0
    """Wall time of earlier sittings."""
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Look at the checkpoints that are there."""
        self.checkpoints = CheckpointWriter(
            parent=self.folder / "checkpoints",
            digest=self.job.digest,
            identity=self.job.identity,
            keep=self.job.trainer.keep_checkpoints,
            world=self.world,
        )
        self.sealer = Sealer(folder=self.folder)

    def __call__(self, checkpoint: Checkpoint | None) -> float | None:
        """Everything that is left: in the first process what the validation split measured at last.

        Raises:
            RankError: If a process is dead, or does not come in time.
            RefusedBatchError: If a loss or gradient is not finite; the batch is saved.
            SystemExit: After a signal to any of the processes, with everything saved.
        """
        self.world.enter("the start of the rollout engine")
        with self.parts.trainer.policy.whole() as policy:
            self.parts.trainer.rollout.start(policy)
        before = self.test("before")
        if checkpoint is not None:
            self.restore(checkpoint)
        with self.tracked():
            self.train()
            return self.conclude(before, self.test("after"))

    @property
    def world(self) -> World:
        """This process among those of the run."""
        return self.parts.trainer.world

    @property
    def headline(self) -> str:
        """The measure that a run is judged by, within a split."""
        return self.parts.evaluator.grader.headline

    @property
    def scored_by(self) -> str:
        """Digest of all that an evaluation's scores depend on."""
        return f"{self.job.digest}-{self.job.evaluation_digest}"

    def test(self, phase: str) -> Evaluation | None:
        """Score the test split, or read the scores of an earlier sitting."""
        self.world.enter(f"the evaluation {phase} training")
        with self.parts.trainer.policy.whole() as policy:
            return self._test(policy, phase) if self.world.leads else None

    def _test(self, policy: Policy, phase: str) -> Evaluation:
        known = load_evaluation(self.folder, "test", phase, digest=self.scored_by)
        if known is not None:
            return known
        touch_test_split(self.folder, phase=phase)
        self.console.say(f"scoring the test split {phase} training")
        prompts = self.parts.task.test[: self.job.evaluation.max_prompts]
        evaluation = self.parts.evaluator(policy, prompts, split="test", phase=phase)
        grader = self.parts.evaluator.grader
        grader.write(self.folder, prompts, evaluation.responses, phase=phase)
        # last: what is known is not redone
        save_evaluation(self.folder, evaluation, digest=self.scored_by)
        return evaluation

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of this run."""
        restore(checkpoint, self.parts.trainer.policy.model, self.parts.trainer.optimizer)
        self.watch = Watch.from_carry(checkpoint.carry)
        self.seconds_before = checkpoint.carry.get("wall_s", 0.0)
        self.last_step = checkpoint.step
        self.console.say(f"going on after step {checkpoint.step} ({checkpoint.folder})")

    @property
    def wall_s(self) -> float:
        """Seconds over all sittings."""
        return self.seconds_before + time.monotonic() - self.started

    @contextmanager
    def tracked(self) -> Iterator[None]:
        """Trackers open within it; they learn how it ended."""
        if not self.world.leads:
            yield
            return
        info = RunInfo(
            folder=self.folder,
            run_id=run_id(self.folder) or "",
            group=self.job.group,
            name=f"{self.job.name}/seed{self.job.seed}",
            config=self.job.config,
            tags=(
                f"data: {self.parts.task.source}",
                self.job.dataset_name,
                self.job.estimator_name,
            ),
        )
        say, warn = self.console.say, self.console.warn
        self.record = JSONL().start(info, last_step=self.last_step, say=say)
        self.completions = CompletionsFile(self.folder, last_step=self.last_step)
        self.mirrors = [
            Mirror(tracker, info, last_step=self.last_step, say=say, warn=warn)
            for tracker in self.job.trackers
            if not isinstance(tracker, JSONL)
        ]
        failed = True
        try:
            yield
            self.record.finish(self.measured, failed=False)
            failed = False
        finally:
            for mirror in self.mirrors:
                mirror.finish(self.measured, failed=failed)

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Write a step's metrics to the record."""
        if self.record is not None:
            self.record.log(metrics, step=step)

    def mirror(
        self,
        metrics: Mapping[str, float],
        *,
        step: int,
        rows: Sequence[Sequence[object]] = (),
        saved: bool = False,
    ) -> None:
        """Hand a step to the mirrors, which may be slow: once its checkpoint is under way.

        Args:
            metrics: Of the step.
            step: Its number.
            rows: Of the table of responses, on the steps that show it.
            saved: Whether the step has a checkpoint.
        """
        for mirror in self.mirrors:
            mirror.log(metrics, step=step)
            if rows:
                mirror.table("responses", COLUMNS, rows)
            if saved:
                mirror.sync()

    def validate(self, step: int) -> dict[str, float]:
        """Metrics of the validation split, on the steps that have them."""
        if not self.job.evaluation.is_due(step, last=self.job.trainer.steps):
            return {}
        self.world.enter(f"the evaluation after step {step}")
        with self.parts.trainer.policy.whole() as policy:
            return self._validate(policy, step) if self.world.leads else {}

    def _validate(self, policy: Policy, step: int) -> dict[str, float]:
        prompts = self.parts.task.validation[: self.job.evaluation.max_prompts]
        began = time.perf_counter()
        evaluation = self.parts.validator(policy, prompts, split="validation", phase=str(step))
        seconds = {"time/validation_s": time.perf_counter() - began}
        if step == self.job.trainer.steps:  # the summary reads it, in a later sitting too
            save_evaluation(self.folder, evaluation, digest=self.scored_by)
        return evaluation_metrics(evaluation) | seconds

    def train(self) -> None:
        """All steps that are left, with their metrics, responses and checkpoints."""
        done = self.last_step or 0
        if self.last_step is None:
            metrics = self.validate(0)
            self.log(metrics, step=0)
            self.mirror(metrics, step=0)
        with (
            self.console.progress(steps=self.job.trainer.steps, done=done) as show,
            stop_request() as stop,
            self.checkpoints.waited_for(),
        ):
            for result in self._steps(after=done):
                metrics = result.metrics | self.validate(result.step)
                self.log(metrics, step=result.step)
                show(result.step, metrics)
                rows = self.keep(result) if self.world.leads else ()
                for warning in self.watch(result.step, metrics):
                    self.console.warn(warning)
                score = metrics.get(f"eval/validation/{self.headline}")
                then = self._after(result.step, stop, score)
                if then.saves:
                    self.checkpoint(result.step, score)
                self.mirror(metrics, step=result.step, rows=rows, saved=then.saves)
                if then.stops:
                    self._stop(result.step, then)

    def _steps(self, *, after: int) -> Iterator[StepResult]:
        """The steps that are left; a batch that is refused is saved before the run ends on it.

        Raises:
            RefusedBatchError: With where the batch lies, and the command that replays it.
        """
        try:
            yield from self.parts.trainer.run(after=after)
        except RefusedBatchError as error:
            where = self.folder / "failed_batch"
            try:
                save_batch(where, error, self.parts.trainer.policy.model)
            except (OSError, CheckpointError) as unsaved:
                raise type(error)(
                    f"{error}; but it could not be saved: {unsaved}", error.refused
                ) from error
            raise type(error)(
                f"{error} in {where}: {pasted('rlcredit replay', batch=where)}", error.refused
            ) from error

    def _after(self, step: int, stop: StopRequest, score: float | None) -> AfterStep:
        """Agree on what happens after a step.

        Any process may have been told to stop; the first one alone has a score of the policy.
        """
        settings = self.job.trainer
        improves = self.checkpoints.improves(score)
        number, best = self.world.largest(stop.number or 0, int(improves))
        last = step == settings.steps
        stopping = number > 0 and not last
        saves = last or stopping or best > 0 or step % settings.checkpoint_every == 0
        if saves:
            self.world.enter(f"the checkpoint of step {step}")
        return AfterStep(saves=saves, stop=StopRequest(number if stopping else None))

    def _stop(self, step: int, then: AfterStep) -> NoReturn:
        """End the process before the last step, once its checkpoint is whole."""
        self.checkpoints.wait()
        self.console.say(
            f"stopped after step {step}, everything is saved; the same command goes on from there"
        )
        sys.exit(then.stop.exit_status)

    def keep(self, result: StepResult) -> Sequence[Sequence[object]]:
        """Write the step's responses with their credit, and now and then the table of them.

        Returns:
            The table's rows; none on other steps.
        """
        written = completions(result.rollouts, result.signals, result.advantages)
        self.completions.write(result.step, written)
        settings = self.job.trainer
        if result.step % settings.checkpoint_every and result.step != settings.steps:
            return ()
        rewards = result.signals.rewards.tolist()
        rows = response_rows(result.step, result.rollouts, rewards, result.advantages)
        if self.record is not None:
            self.record.table("responses", COLUMNS, rows)
        return rows

    def checkpoint(self, step: int, score: float | None) -> None:
        """Everything that a later sitting needs, after everything it builds on is on disk.

        The files are written while training goes on.
        """
        if self.record is not None:
            self.record.sync()
            self.completions.sync()
        self.checkpoints.start(
            step=step,
            model=self.parts.trainer.policy.model,
            optimizer=self.parts.trainer.optimizer,
            carry=self.watch.carry() | {"wall_s": self.wall_s},
            score=score,
            record=self.sealer() if self.world.leads else {},
        )

    def conclude(self, before: Evaluation | None, after: Evaluation | None) -> float | None:
        """The weights; then the table, the summary, and where they lie.

        Raises:
            ExportError: If the exported weights are not the policy; everything else is written.
        """
        self.world.enter("the export")
        with self.parts.trainer.policy.whole() as policy:
            fault = self._export(policy) if self.world.leads else None
        if before is None or after is None:
            return None  # the first process alone has evaluated
        score = self._summarise(before, after, fault)
        if fault is not None:
            raise ExportError(
                f"{fault}. Everything else of the run is written; its last checkpoint holds the "
                "weights. Once the cause is mended, the same command exports them again"
            )
        return score

    def _export(self, policy: Policy) -> str | None:
        """Write the policy's folder; what is wrong with it, None if it holds the policy."""
        folder = self.folder / "policy"
        export(policy, self.job.rollout, folder)
        return export_fault(policy, folder, self.parts.task.test[:NUM_COMPARED])

    def _summarise(self, before: Evaluation, after: Evaluation, fault: str | None) -> float | None:
        comparisons = {row.cell.name: Change.of(row) for row in compare(before, after)}
        rhos = {each.phase: truth_rho(each) for each in (before, after)}
        last = str(self.job.trainer.steps)
        validated = load_evaluation(self.folder, "validation", last, digest=self.scored_by)
        summary = RunSummary(
            name=self.job.name,
            status=Status.finished if fault is None else Status.failed,
            fault=fault,
            digest=self.job.digest,
            identity=self.job.identity,
            data=self.parts.task.source,
            data_digest=self.parts.task.digest,
            steps=self.job.trainer.steps,
            wall_time_s=self.wall_s,
            headline=self.headline,
            measures=comparisons,
            validation={} if validated is None else intervals(validated),
            credit={phase: rho for phase, rho in rhos.items() if rho is not None},
            figures={each.phase: each.figures for each in (before, after) if each.figures},
            test_touches=count_touches(self.folder),
            code_revision=code_revision(Path(__file__).parent),
            versions=computed_with(),
            record=self.sealer(),
            exported=self.sealer(EXPORTED),
        )
        card = ModelCard(
            job=self.job,
            policy=self.parts.trainer.policy,
            summary=summary,
            prompt=self.parts.task.test[0],
            examples=after.examples[:1],
        )
        replace_file(self.folder / "policy" / CARD_FILE, card.text())
        path = summary.write(self.folder)
        self.measured = after.metrics()
        self._show(before, after, summary, path)
        return summary.validated

    def _show(self, before: Evaluation, after: Evaluation, summary: RunSummary, path: Path) -> None:
        """The table, texts, places and the next command; of a sweep's job a line."""
        self.console.results(
            before,
            after,
            task=self.parts.task,
            trained_on=self.parts.evaluator.grader.trained_on,
            temperature=self.job.rollout.temperature,
        )
        texts = self.watch.texts()
        if texts is not None:
            self.console.say(texts)
        self.console.examples(before, after)
        self.console.paths(
            {
                "metrics": self.folder / "metrics.jsonl",
                "responses": self.folder / "completions.jsonl",
                "summary": path,
                "policy": self.folder / "policy",
            },
            then=pasted("rlcredit report", run=self.folder),
        )
        if why := caveat(self.job.words):
            self.console.say(f"{why}: too few steps and prompts to say anything about a method")
        change = summary.measures[summary.headline]
        if self.job.swept:
            self.console.announce(
                f"  {measure_name(summary.headline)} {change.before.mean:.3f} -> "
                f"{change.after.mean:.3f}, {seconds(self.wall_s)}"
            )
