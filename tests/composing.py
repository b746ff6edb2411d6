"""Composes a run's config, or builds one component of a group, as cheaply as a test can."""

from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import open_dict

from rlcredit.commands.components import build
from rlcredit.commands.composer import Composer
from rlcredit.commands.schema import register

CONF = Path(__file__).parents[1] / "conf"


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


register()
RUNS = Composer(folder=CONF)
"""A choice of components takes Hydra .3 s: each is composed once for all test files."""
ConfigStore.instance().store(
    name="one_component",
    node={
        "defaults": [
            "_self_",
            {"loss": "dapo"},
            {"reward": "ndcg"},
            {"estimator": "grpo"},
            {"policy": "tiny"},
        ],
        "rollout": {"max_new_tokens": 32},
    },
)


@cache
def built(group, name, overrides=()):
    """The object that conf/<group>/<name>.yaml describes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("one_component", overrides=[f"{group}={name}", *overrides])
    return build(cfg[group])


def composed(*words):
    """The config of the run that ``python train.py <words>`` starts."""
    cfg = RUNS(words)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg
