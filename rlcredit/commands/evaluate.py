"""``rlcredit evaluate``: score a finished run's stored responses with another retriever.

The policy does not write again, and nothing is trained.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig

from rlcredit.commands.build import build, saved_config, typed
from rlcredit.commands.run_main import run_main
from rlcredit.rescore import rescore


@dataclass
class EvaluateConfig:
    """The root of ``conf/evaluate.yaml``."""

    run: str = MISSING
    """Folder of a finished run."""
    cache: str = "outputs/cache"
    retriever: Any = MISSING


ConfigStore.instance().store(name="evaluate_schema", node=EvaluateConfig)


def rescore_run(cfg: DictConfig) -> None:
    """Score a finished run's stored responses with the retriever of ``conf/evaluate.yaml``."""
    run = Path(cfg.run)
    saved = saved_config(run)
    rescore(
        run,
        dataset=build(typed(saved.dataset)),
        retriever=build(cfg.retriever),
        name=str(HydraConfig.get().runtime.choices["retriever"]),
        reward=build(typed(saved.reward)),
        temperature=saved.rollout.temperature,
        cache=Path(cfg.cache),
    )


def main() -> None:
    """The command line."""
    run_main(rescore_run, config_name="evaluate")
