"""Builds one component of a group from its YAML, without the rest of the configuration."""

from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore

from rlcredit.commands.components import build
from rlcredit.commands.schema import register

CONF = Path(__file__).parents[1] / "conf"


def names(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


register()
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
