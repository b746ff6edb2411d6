"""``rlcredit report``: one self-contained HTML page about a run, or about all runs below a folder.

Nothing is trained and no policy writes anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from rlcredit.commands.build import allowed_by_command, estimator_config, saved_part
from rlcredit.commands.components import build
from rlcredit.commands.run_main import run_main
from rlcredit.commands.saved import saved_config
from rlcredit.report.embedded import Shown, ShownRun, alike
from rlcredit.report.explore import Explored, explore
from rlcredit.report.page import render, write_page
from rlcredit.report.runs import ReportedRun, best_run, find_runs, other_method, read_run
from rlcredit.report.steps import prompt_steps


@dataclass
class ReportConfig:
    """The root of ``conf/report.yaml``."""

    run: str = MISSING
    """Folder of a finished run, or one that holds some."""
    out: str | None = None
    """The page; None: report.html in that folder."""
    explore: str | None = None
    """Run whose responses the credit explorer shows; None: the one that ends highest."""
    beside: str | None = None
    """Run that is shown beside it; None: the best of another method on the same data, if any."""
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
    html = render(runs, gaps, shown=_shown(runs, cfg))
    page = write_page(Path(cfg.out) if cfg.out else Path(cfg.run) / "report.html", html)
    print(f"report: {page}")
    return page


def _shown(runs: Sequence[ReportedRun], cfg: DictConfig) -> Shown | None:
    """The explored run before and after training, and the one beside it; None where none is."""
    folder = Path(cfg.explore) if cfg.explore else best_run(runs).folder
    first = explore(_explored(folder, cfg), num_prompts=cfg.prompts, phases=("after", "before"))
    if not first.prompts:
        return None
    run = read_run(folder)
    beside = Path(cfg.beside) if cfg.beside else other_method(runs, run)
    titles = dict(first.titles)
    shown = [
        ShownRun(label=f"{run.label}, {phase} training", prompts=prompts)
        for phase, prompts in first.prompts.items()
    ]
    if beside is not None:
        other = explore(_explored(beside, cfg), num_prompts=cfg.prompts, phases=("after",))
        titles |= other.titles
        label = f"{read_run(beside).label}, after training"
        shown.append(ShownRun(label=label, prompts=other.prompts["after"]))
    return Shown(
        runs=alike(shown),
        part=first.part,
        own=run.estimator,
        titles=titles,
        steps=prompt_steps(folder, num_prompts=cfg.prompts),
    )


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
