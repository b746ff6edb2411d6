"""The sweep file for W&B: the commands that its agent makes of it are commands of this package."""

from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from rlcredit.commands.build import trackers
from rlcredit.commands.components import build
from rlcredit.commands.schema import register
from rlcredit.tracking import WandB

ROOT = Path(__file__).parents[2]
SWEEP = yaml.safe_load((ROOT / "examples" / "sweep" / "wandb.yaml").read_text())
CHOSEN = {"trainer.optimizer.lr": 0.00317, "trainer.group_size": 16, "loss.clip_high": 0.31}
register()


@cache
def agent():
    """W&B's own module, which takes two seconds to import: not in all processes of the suite."""
    return import_module("wandb.sdk.launch.sweeps.utils")


def words(macro):
    """The words behind the program, as W&B's agent puts them together."""
    args = agent().create_sweep_command_args({"args": {k: {"value": v} for k, v in CHOSEN.items()}})
    command = agent().create_sweep_command(list(SWEEP["command"]))
    known = {"env": ["/usr/bin/env"], "interpreter": ["python"], "program": [SWEEP["program"]]}
    known[macro] = args[macro]
    parts = [known[part[2:-1]] if part.startswith("${") else [part] for part in command]
    flat = [word for part in parts for word in part]
    return flat[: flat.index("train.py") + 1], flat[flat.index("train.py") + 1 :]


def test_the_agent_s_command_sets_what_the_sweep_chose():
    assert set(CHOSEN) == set(SWEEP["parameters"])
    start, overrides = words("args_no_hyphens")
    assert start == ["/usr/bin/env", "python", "train.py"]
    assert (ROOT / SWEEP["program"]).is_file()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides=overrides)
    trainer, loss = build(cfg.trainer), build(cfg.loss)
    assert (trainer.optimizer.lr, trainer.group_size, loss.clip_high) == tuple(CHOSEN.values())
    assert [type(each) for each in trackers(cfg)] == [WandB]
    assert cfg.evaluation.every > 0


def test_words_with_hyphens_are_not_hydra_s():
    args = agent().create_sweep_command_args({"args": {"trainer.group_size": {"value": 4}}})
    with (
        initialize_config_dir(str(ROOT / "conf"), version_base="1.3"),
        pytest.raises(HydraException),
    ):
        compose("train", overrides=args["args"])
