"""``rlcredit report``: one self-contained HTML page about a run, or about all runs below a folder.

Nothing is trained and no policy writes anything.
"""

from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from rlcredit.commands.build import allowed_by_command, estimator_config, saved_part
from rlcredit.commands.components import build
from rlcredit.commands.run_main import run_main
from rlcredit.commands.saved import saved_config
from rlcredit.report.explore import Explored, explore
from rlcredit.report.page import find_runs, render, write_page


@dataclass
class ReportConfig:
    """The root of ``conf/report.yaml``."""

    run: str = MISSING
    """Folder of a finished run, or one that holds some."""
    out: str | None = None
    """The page; None: report.html in that folder."""
    explore: str | None = None
    """Run whose responses the credit explorer shows; None: the first finished one."""
    prompts: int = 6
    """Prompts that the explorer shows; 0 leaves it out."""
    estimators: list[str] = field(
        default_factory=lambda: ["grpo", "ospo", "loo", "prefix", "ospo_released", "random_credit"]
    )
    """Names in conf/estimator that the explorer compares on responses of one text each."""
    set_estimators: list[str] = field(
        default_factory=lambda: ["grpo", "shape", "shape_loo", "winner_takes_all"]
    )
    """The same for responses that are sets of candidates."""
    cache: str = "outputs/cache"
    """Folder for what can be made again."""
    allow: list[str] = field(default_factory=list)
    """Packages from outside whose components are used; given on the command line alone."""


ConfigStore.instance().store(name="report_schema", node=ReportConfig)


def report_runs(cfg: DictConfig) -> Path:
    """Write the page of ``conf/report.yaml``; print and return where it lies."""
    runs, gaps = find_runs([Path(cfg.run)])
    explored = Path(cfg.explore) if cfg.explore else runs[0].folder
    shown = explore(_explored(explored, cfg), num_prompts=cfg.prompts)
    html = render(
        runs,
        gaps,
        explored=shown.prompts,
        part=shown.part,
        titles=shown.titles,
        explored_run=explored,
    )
    page = write_page(Path(cfg.out) if cfg.out else Path(cfg.run) / "report.html", html)
    print(f"report: {page}")
    return page


def _explored(run: Path, cfg: DictConfig) -> Explored:
    """A finished run's components, and the estimators that its responses are shown to."""
    allow = allowed_by_command(cfg)
    saved = saved_config(run, allow=allow)
    dataset = saved_part(saved.dataset, allow=allow)
    names = cfg.set_estimators if dataset.candidates else cfg.estimators
    return Explored(
        run=run,
        dataset=dataset,
        retriever=saved_part(saved.retriever, allow=allow),
        reward=saved_part(saved.reward, allow=allow),
        segmenter=saved_part(saved.segmenter, allow=allow),
        encoder=saved_part(saved.encoder, allow=allow),
        estimators={name: build(estimator_config(name)[0], allow=allow) for name in names},
        seed=saved.seed,
        cache=Path(cfg.cache),
    )


def main() -> None:
    """The command line."""
    run_main(report_runs, config_name="report")
