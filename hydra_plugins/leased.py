"""``hydra/launcher=leased``: the jobs of a sweep side by side, each on GPUs of its own.

Hydra finds launchers in packages called ``hydra_plugins``, which have no ``__init__.py``.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from signal import SIG_DFL, SIG_IGN, SIGHUP, SIGTERM, Signals, getsignal, signal
from types import FrameType
from typing import Any

import torch
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from rlcredit.run.sweep_table import save_failure

LOG = "job.log"
"""File in a job's folder that holds what it printed."""


@dataclass
class LeasedLauncherConf:
    """``hydra.launcher`` of a sweep."""

    _target_: str = "hydra_plugins.leased.LeasedLauncher"
    gpus_per_job: int = 1
    """A job sees so many, and no other; ``trainer.processes`` is how many it uses."""
    devices: list[str] | None = None
    """Ids to lease; null: those of CUDA_VISIBLE_DEVICES, or all of the machine."""


ConfigStore.instance().store(group="hydra/launcher", name="leased", node=LeasedLauncherConf)


@dataclass(kw_only=True)
class _Started:
    """A job that is under way."""

    number: int
    process: BaseProcess
    answer: Any
    """A pipe, by which it says what it returned."""
    devices: list[str]
    folder: Path
    since: float = field(default_factory=time.monotonic)


class LeasedLauncher(Launcher):
    """Starts a job whenever enough devices are free; a job that fails stops no other.

    Jobs are forks of this process, so nothing is pickled, and it must not have used a GPU.

    Raises:
        ValueError: If there are fewer devices than a job wants.
    """

    def __init__(self, *, gpus_per_job: int, devices: Sequence[str] | None) -> None:
        self.gpus_per_job = gpus_per_job
        self.devices = _present() if devices is None else [str(device) for device in devices]
        if not 0 < gpus_per_job <= len(self.devices):
            raise ValueError(
                f"hydra.launcher.gpus_per_job={gpus_per_job}, and there are {len(self.devices)} "
                f"GPUs to lease ({', '.join(self.devices) or 'none'}); lower it, name some by "
                "hydra.launcher.devices=[0,1], or leave hydra/launcher out: jobs then run one "
                "after another"
            )
        self.context: HydraContext
        self.task: TaskFunction
        self.config: DictConfig

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """What Hydra hands to every launcher."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run all jobs; a failed one returns None and says why in its folder."""
        setup_globals()
        configs = [
            self._configured(list(overrides), initial_job_idx + index)
            for index, overrides in enumerate(job_overrides)
        ]
        waiting, running = list(range(len(configs))), list[_Started]()
        free, done = list(self.devices), dict[int, JobReturn]()
        with _ended(running):
            while waiting or running:
                while waiting and len(free) >= self.gpus_per_job:
                    leased = [free.pop(0) for _ in range(self.gpus_per_job)]
                    number = waiting.pop(0)
                    running.append(self._start(number, configs[number], leased))
                    words = " ".join(filter_overrides(job_overrides[number]))
                    self._say(f"job {configs[number].hydra.job.num} on {','.join(leased)}: {words}")
                connection.wait([job.process.sentinel for job in running])
                for job in [job for job in running if not job.process.is_alive()]:
                    running.remove(job)
                    free += job.devices
                    done[job.number] = self._finish(job, configs[job.number])
        return [done[number] for number in range(len(configs))]

    def _configured(self, overrides: list[str], number: int) -> DictConfig:
        """A job's whole config, its folder included."""
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
            place = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
            config.hydra.runtime.output_dir = str(place)
        return config

    def _start(self, number: int, config: DictConfig, devices: list[str]) -> _Started:
        """A process of its own, with its output in a file."""
        folder = Path(config.hydra.runtime.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        context = get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=self._work, args=(config, devices, folder / LOG, theirs), name=f"job {number}"
        )
        process.start()
        theirs.close()
        return _Started(number=number, process=process, answer=ours, devices=devices, folder=folder)

    def _work(self, config: DictConfig, devices: list[str], log: Path, answer: Any) -> None:
        """Run one job, in a process of its own."""
        os.setpgid(0, 0)  # Ctrl-C reaches the sweep alone, which asks its jobs to stop
        for number in _stopping():
            signal(number, SIG_DFL)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
        with log.open("a") as file:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
        result = run_job(
            hydra_context=self.context,
            task_function=self.task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        answer.send(result.return_value)

    def _finish(self, job: _Started, config: DictConfig) -> JobReturn:
        """What a job that has ended returned; Hydra's callbacks learn of it."""
        job.process.join()
        code, value = job.process.exitcode or 0, None
        if code == 0 and job.answer.poll():
            value = job.answer.recv()
        elif code != 0:
            how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with {code}"
            save_failure(job.folder, f"the job's process {how}; it printed {job.folder / LOG}")
        seconds = time.monotonic() - job.since
        self._say(
            f"job {config.hydra.job.num} has ended after {seconds:.0f} s: {value} ({job.folder})"
        )
        whole = OmegaConf.create({"hydra": config.hydra})
        OmegaConf.set_readonly(whole, True)
        ended = JobReturn(hydra_cfg=whole, status=JobStatus.COMPLETED, _return_value=value)
        self.context.callbacks.on_job_end(config=config, job_return=ended)
        return ended

    def _say(self, line: str) -> None:
        print(line, flush=True)


def _present() -> list[str]:
    """Ids of the GPUs that this process may use; counting them starts nothing on them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def _stopping() -> list[Signals]:
    """Signals that ask a sweep to stop, beside Ctrl-C; a hangup is none under nohup."""
    return [number for number in (SIGTERM, SIGHUP) if getsignal(number) is not SIG_IGN]


@contextmanager
def _ended(running: list[_Started]) -> Iterator[None]:
    """If the sweep is told to stop, its jobs are, and everything is saved before it ends."""

    def stop(number: int, frame: FrameType | None) -> Any:
        if number == SIGHUP:
            signal(SIGHUP, SIG_IGN)  # a closed terminal sends it twice
        sys.exit(128 + number)

    before = {number: signal(number, stop) for number in _stopping()}
    try:
        yield
    finally:
        signal(SIGTERM, before[SIGTERM])
        for job in running:
            job.process.terminate()
        for job in running:
            job.process.join()
        for number, handler in before.items():
            signal(number, handler)
