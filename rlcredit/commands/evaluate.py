"""``rlcredit evaluate``: score a finished run's stored responses with another retriever.

The policy does not write again, and nothing is trained.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig

from rlcredit.commands.build import allowed_by_command, saved_part
from rlcredit.commands.components import build
from rlcredit.commands.run_main import run_main
from rlcredit.commands.saved import saved_config
from rlcredit.report.rescore import rescore


@dataclass
class EvaluateConfig:
    """The root of ``conf/evaluate.yaml``."""

    run: str = MISSING
    """Folder of a finished run."""
    cache: str = "outputs/cache"
    """Folder for what can be made again."""
    retriever: Any = MISSING
    """What scores the run's responses again."""
    allow: list[str] = field(default_factory=list)
    """Packages from outside whose components are used; given on the command line alone."""


ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)


def rescore_run(cfg: DictConfig) -> None:
    """Score a finished run's stored responses with the retriever of ``conf/evaluate.yaml``."""
    run, allow = Path(cfg.run), allowed_by_command(cfg)
    saved = saved_config(run, allow=allow)
    rescore(
        run,
        dataset=saved_part(saved.dataset, allow=allow),
        retriever=build(cfg.retriever, allow=allow),
        name=str(HydraConfig.get().runtime.choices["retriever"]),
        reward=saved_part(saved.reward, allow=allow),
        temperature=saved.rollout.temperature,
        cache=Path(cfg.cache),
    )


def main() -> None:
    """The command line."""
    run_main(rescore_run, config_name="evaluate")
