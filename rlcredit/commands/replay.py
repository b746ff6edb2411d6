"""``rlcredit replay``: compute the batch again that a run stopped on.

Prints where the first value that is not finite arises, in which tensor and for which responses, and
how far sampler and trainer are apart.
"""

from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from rlcredit.commands.build import allowed_by_command, saved_part
from rlcredit.commands.run_main import run_main
from rlcredit.commands.saved import saved_config
from rlcredit.diagnose.of_run import Replayed, replay_batch
from rlcredit.diagnose.recompute import Replay
from rlcredit.run.console import RunConsole


@dataclass
class ReplayConfig:
    """The root of ``conf/replay.yaml``."""

    batch: str = MISSING
    """The folder failed_batch of a run that stopped on one."""
    cache: str = "outputs/cache"
    """Folder for what can be made again."""
    device: str | None = None
    """Where to compute; None: where the run did."""
    allow: list[str] = field(default_factory=list)
    """Packages from outside whose components are used; given on the command line alone."""


ConfigStore.instance().store(name="replay_schema", node=ReplayConfig)


def replay_refused(cfg: DictConfig) -> Replay:
    """Compute the batch of ``conf/replay.yaml`` again, with the settings of its run."""
    folder = Path(cfg.batch)
    allow = allowed_by_command(cfg)
    saved = saved_config(folder.parent, allow=allow)
    trainer = saved_part(saved.trainer, allow=allow)
    names = ("dataset", "policy", "loss")
    return replay_batch(
        Replayed(
            folder=folder,
            seed=saved.seed,
            cache=Path(cfg.cache),
            device=cfg.device or trainer.device,
            trainer=trainer,
            **{name: saved_part(saved[name], allow=allow) for name in names},
        ),
        say=RunConsole().say,
    )


def main() -> None:
    """The command line."""
    run_main(replay_refused, config_name="replay")
