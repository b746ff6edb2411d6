"""A composed config's identity and digests, and where its run lies."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from omegaconf import DictConfig

from rlcredit.commands.components import allowed, build, component_class, plain
from rlcredit.identity import TARGET, Versioned, digest, identify
from rlcredit.tasks.base import data_identity

METHOD = ("policy", "estimator", "loss", "reward", "segmenter", "encoder", "rollout", "trainer")
"""Groups that enter a run's identity beside its seed, its retriever and its data: with all settings
that are not declared aside."""


def run_identity(cfg: DictConfig, *, allow: Sequence[str] = ()) -> dict[str, Any]:
    """Everything that a run's numbers depend on, by public names and as plain values.

    The data set enters by its settings and its content, not by where it lies; a reward of code or
    weights likewise.

    Args:
        cfg: A composed config, or one that was saved.
        allow: Packages from outside whose components may stand in it.

    Raises:
        FileNotFoundError: If a file of the data set is missing.
        ValueError: If a component is of no declared package.
    """
    retriever = identify(plain(cfg.retriever), partial(component_class, allow=allow))
    dataset = data_identity(build(cfg.dataset, allow=allow))
    return {"seed": cfg.seed, "dataset": dataset, "retriever": retriever} | _method(cfg, allow)


def run_digest(cfg: DictConfig, *, allow: Sequence[str] = ()) -> str:
    """Hash of a run's identity; two runs of one digest are the same run."""
    return digest(run_identity(cfg, allow=allow))


def settings_digest(cfg: DictConfig, *, allow: Sequence[str] = ()) -> str:
    """Hash of what a run's numbers depend on besides its seed, retriever and data."""
    return digest(_method(cfg, allow))


def evaluation_digest(cfg: DictConfig) -> str:
    """Hash of how a run is evaluated, apart from the run itself."""
    return digest(identify(plain(cfg.evaluation), component_class))


def subfolder(cfg: DictConfig, identity: Mapping[str, Any]) -> str:
    """``<dataset>/<estimator>/seed<k>-<digest8>``: where a run lies under ``outputs/``."""
    choices = cfg.hydra.runtime.choices
    return f"{choices.dataset}/{choices.estimator}/seed{identity['seed']}-{digest(identity)[:8]}"


def run_subfolder(*, _root_: DictConfig) -> str:
    """:func:`subfolder` of a config, as its interpolation ``${run_subfolder:}``."""
    allow = allowed(_root_.hydra.overrides.task)
    return subfolder(_root_, run_identity(_root_, allow=allow))


def run_folder(*, _root_: DictConfig) -> str:
    """The default of ``hydra.run.dir``."""
    return f"outputs/{run_subfolder(_root_=_root_)}"


def _method(cfg: DictConfig, allow: Sequence[str]) -> dict[str, Any]:
    find = partial(component_class, allow=allow)
    method = {name: identify(plain(cfg[name]), find) for name in METHOD}
    for name in METHOD:
        if issubclass(find(cfg[name][TARGET]), Versioned):
            method[name]["content"] = list(build(cfg[name], allow=allow).content())
    return method
