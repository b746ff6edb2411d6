"""A training state to disk and back, by one process or many, while training goes on.

``torch.distributed.checkpoint`` moves the tensors: each rank writes what it holds, and whatever
number of ranks reads it gets its own part. The files are safetensors; nothing is pickled.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.state_dict_saver import save as save_now
from torch.distributed.checkpoint.storage import WriteResult

from rlcredit.checkpoint.folders import (
    FORMAT,
    PREFIX,
    STATE,
    CheckpointError,
    best_score,
    checksum,
    folders,
    plain,
    sums,
    superseded,
)
from rlcredit.checkpoint.state import WEIGHTS, be_quiet, trained, training_state
from rlcredit.distributed.board import RankError
from rlcredit.distributed.world import World

WRITING = ".writing-"
"""Prefix of a folder that has not got its name yet."""


@dataclass(kw_only=True)
class CheckpointWriter:
    """Writes a run's checkpoints, one at a time, beside the training that goes on.

    Every rank makes one and calls it at the same steps, in one order: its methods are collective.
    """

    parent: Path
    digest: str
    identity: Mapping[str, Any]
    """The settings behind the digest."""
    keep: int
    """The last so many stay, and the one of the highest score."""
    world: World = field(default_factory=World)
    """Knows how long a rank waits for the others' files, and who is missing."""
    best: float | None = field(init=False)
    """The highest score so far."""
    _step: int = field(default=0, init=False)
    _under_way: Future[Any] | None = field(default=None, init=False)
    _group: dist.ProcessGroup | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Look at what is there, and meet the other ranks.

        They connect here and not at the first checkpoint: a connection that is under way to a rank
        that stands still ends long after the time that ranks wait for each other.

        Raises:
            RankError: If they do not all come in time.
        """
        self.best = best_score(self.parent)
        if dist.is_initialized():
            try:  # of its own, since training uses the other meanwhile
                group = dist.new_group(
                    backend="gloo", timeout=timedelta(seconds=self.world.timeout_s)
                )
            except RuntimeError as error:
                raise RankError(self.world.missing(str(error))) from error
            assert isinstance(group, dist.ProcessGroup), "every rank belongs to it"
            self._group = group

    def improves(self, score: float | None) -> bool:
        """Is it higher than that of every checkpoint so far?"""
        return score is not None and (self.best is None or score > self.best)

    def start(
        self,
        *,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        carry: Mapping[str, float],
        score: float | None = None,
        record: Mapping[str, Any] | None = None,
    ) -> None:
        """Copy the training state and return; the files are written meanwhile.

        The folder gets its name when all files of all ranks are on disk, so a kill or a full disk
        at any moment leaves the checkpoint before it whole.

        Args:
            step: That is done.
            model: Its trained parameters are saved, with their moments.
            optimizer: Of these parameters.
            carry: What the run keeps besides; that of the first rank counts.
            score: The validation measure at this step, if it was taken.
            record: The seal of the run's other files as they are now.

        Raises:
            CheckpointError: If the one before could not be written.
        """
        self.wait()
        state = {
            "format": FORMAT,
            "step": step,
            "digest": self.digest,
            "identity": plain(self.identity),
            "carry": dict(carry),
            "score": score,
            "record": dict(record or {}),
            "ranks": dist.get_world_size() if dist.is_initialized() else 1,
        }
        if self.improves(score):
            self.best = score
        self._step = step
        be_quiet()
        with self._failures(step):
            started = async_save(
                training_state(model, optimizer),
                storage_writer=_FolderWriter(self.parent, state, keep=self.keep),
                process_group=self._group,
                no_dist=self._group is None,
            )
        assert isinstance(started, Future), "the copy is made before async_save returns"
        self._under_way = started

    def wait(self) -> None:
        """Return when no checkpoint is being written.

        Raises:
            CheckpointError: If it could not be written; those before it are whole.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            with self._failures(self._step):
                under_way.result()

    @contextmanager
    def waited_for(self) -> Iterator[None]:
        """Whatever ends it, what is being written is finished first."""
        try:
            yield
        except BaseException as error:
            try:
                self.wait()
            except CheckpointError as second:
                error.add_note(str(second))
            raise
        self.wait()

    @contextmanager
    def _failures(self, step: int) -> Iterator[None]:
        """Say what a failure to write means."""
        try:
            yield
        except (OSError, CheckpointException) as error:
            shutil.rmtree(self.parent / f"{WRITING}{step:06d}", ignore_errors=True)
            remedy = "Make room (or place the run elsewhere with hydra.run.dir=) and give"
            raise CheckpointError(self._unwritten(step, _cause(error), remedy)) from error
        except RuntimeError as error:  # of the exchange between the ranks
            cause = self.world.missing(str(error))
            raise CheckpointError(self._unwritten(step, cause, "Give")) from error

    def _unwritten(self, step: int, cause: str, remedy: str) -> str:
        older = ", ".join(folder.name for folder in folders(self.parent)) or "none"
        return (
            f"the checkpoint of step {step} could not be written to {self.parent}: {cause}. Whole "
            f"checkpoints there: {older}. {remedy} the same command again: it goes on from there."
        )


class _NewFolderWriter(HuggingFaceStorageWriter):
    """Each rank's part into a folder that the first rank has made, anew."""

    def __init__(self, folder: Path) -> None:
        self.target = folder
        super().__init__(str(folder), save_distributed=True)

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Return the plan as it is; the folder is made once, before any rank writes."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Make the folder anew, on the first rank, before any rank writes a file."""
        if self.target.exists():
            shutil.rmtree(self.target)
        self.target.mkdir(parents=True)
        return super().prepare_global_plan(plans)


class _FolderWriter(_NewFolderWriter):
    """Writes into a folder beside, and gives it its name at the end."""

    def __init__(self, parent: Path, state: Mapping[str, Any], *, keep: int) -> None:
        name = f"{state['step']:06d}"
        self.folder, self.temporary = parent / f"{PREFIX}{name}", parent / f"{WRITING}{name}"
        self.state, self.keep = state, keep
        super().__init__(self.temporary)

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Remove what a kill left half written."""
        for left in self.temporary.parent.glob(f"{WRITING}*"):
            shutil.rmtree(left)
        return super().prepare_global_plan(plans)

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Seal, rename and remove old ones, on the first rank after every rank has written.

        Each rank has flushed its own files (``sync_files`` of ``FileSystemWriter``).
        """
        state = dict(self.state) | {"sha256": sums(self.temporary)}
        path = self.temporary / STATE
        sealed = state | {"check": checksum(state)}
        path.write_text(json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False))
        _flush(path)
        _flush(self.temporary)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        os.replace(self.temporary, self.folder)
        _flush(self.folder.parent)
        _flush(self.folder.parent.parent)  # in which it may be new
        for old in superseded(self.folder.parent, keep=self.keep):
            shutil.rmtree(old)


def write_weights(folder: Path, model: nn.Module) -> None:
    """The trained parameters into a folder of their own, now; collective.

    Raises:
        CheckpointError: If they cannot be written.
    """
    be_quiet()
    weights = {WEIGHTS + name: value for name, value in trained(model).items()}
    try:
        save_now(
            weights, storage_writer=_NewFolderWriter(folder), no_dist=not dist.is_initialized()
        )
    except (OSError, CheckpointException) as error:
        raise CheckpointError(
            f"the weights could not be written to {folder}: {_cause(error)}; make room"
        ) from error


def _cause(error: BaseException) -> str:
    """What went wrong, on which ranks."""
    if not isinstance(error, CheckpointException):
        return str(error)
    return "; ".join(f"rank {rank}: {each[0]}" for rank, each in error.failures.items())


def _flush(path: Path) -> None:
    """Ask the disk to hold a file's (or a folder's) content before the next step relies on it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
