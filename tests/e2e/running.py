"""Runs jobs in this process, composed as ``train.py`` composes them."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from rlcredit.commands.build import job
from rlcredit.run.launch import launch
from tests.composing import RUNS

ROOT = Path(__file__).parents[2]
SMALL = (
    "tracker=jsonl",
    "trainer.steps=4",
    "trainer.prompts_per_step=3",
    "trainer.group_size=4",
    "trainer.checkpoint_every=2",
    "trainer.threads=1",
    "policy.num_layers=2",
    "policy.warm_start.steps=150",
    "policy.warm_start.lr=5e-3",
    "evaluation.retrievers=[]",
    "evaluation.samples=3",
    "evaluation.every=2",
    "evaluation.max_prompts=6",
)
"""A run of seconds in which everything happens."""


def composed(*overrides):
    """The job of a command line."""
    cfg = RUNS(overrides)
    with RUNS.hydra():
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]
        return job(cfg)


def run(folder, *overrides, small=SMALL):
    """Run a job; what it printed."""
    printed = StringIO()
    with redirect_stdout(printed):
        launch(composed(*small, *overrides), folder)
    return printed.getvalue()


def metrics(folder, *, timed=False):
    """The lines of metrics.jsonl, without wall-clock figures unless asked for."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if timed:
        return lines
    clock = ("time/", "perf/")
    return [{k: v for k, v in line.items() if not k.startswith(clock)} for line in lines]
