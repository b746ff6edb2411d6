"""The composition root: it builds a run's objects from a composed config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rlcredit.commands.components import allowed, build
from rlcredit.commands.digests import evaluation_digest, run_identity
from rlcredit.commands.saved import RESOLVER, typed
from rlcredit.commands.sweep import sweep_group
from rlcredit.identity import TARGET, digest
from rlcredit.rewards.base import scores_parts
from rlcredit.run.job import Job
from rlcredit.tracking.base import Tracker
from rlcredit.trainer.pairing import check_pairing, check_rate, types_rate


def job(cfg: DictConfig, words: Sequence[str] | None = None) -> Job:
    """Build every component of a config; the folder and the data are not touched.

    Args:
        cfg: Composed, with or without its node ``hydra``.
        words: The overrides that it was composed with; None: those of the running command.

    Raises:
        ValueError: If a value is out of range, or an estimator and a loss do not go together.
    """
    if cfg.table is not None:
        raise ValueError(
            "this experiment declares a table, not a run; make it with rlcredit tables --size smoke"
        )
    words = tuple(HydraConfig.get().overrides.task if words is None else words)
    choices, allow = HydraConfig.get().runtime.choices, allowed_by_command(cfg)
    parts = {name: build(cfg[name], allow=allow) for name in _COMPONENTS}
    check_pairing(
        parts["estimator"],
        parts["loss"],
        group_size=parts["trainer"].group_size,
        num_candidates=parts["dataset"].candidates,
        scores_parts=scores_parts(parts["reward"]),
    )
    check_rate(parts["policy"], parts["trainer"], typed=types_rate(words))
    own = str(choices["retriever"])
    others = retriever_configs([name for name in cfg.evaluation.retrievers if name != own])
    identity = run_identity(cfg, allow=allow)
    return Job(
        seed=cfg.seed,
        resume=cfg.resume,
        cache=Path(cfg.cache),
        digest=digest(identity),
        identity=identity,
        evaluation_digest=evaluation_digest(cfg),
        config=_config(cfg),
        config_text=config_text(cfg),
        words=words,
        dataset_name=str(choices["dataset"]),
        estimator_name=str(choices["estimator"]),
        loss_name=str(choices["loss"]),
        retriever_name=own,
        retrievers={
            name: build(node, allow=allow) for name, node in ({own: cfg.retriever} | others).items()
        },
        group=sweep_group(),
        trackers=trackers(cfg, allow=allow),
        **parts,
    )


_COMPONENTS = (
    "policy",
    "estimator",
    "loss",
    "dataset",
    "reward",
    "segmenter",
    "encoder",
    "rollout",
    "trainer",
    "evaluation",
)


def trackers(cfg: DictConfig, *, allow: Sequence[str] = ()) -> tuple[Tracker, ...]:
    """The trackers of a run, each from its node ``tracker.<name>``.

    Raises:
        ValueError: If one takes the place of all, or refuses a setting.
    """
    if TARGET in cfg.tracker:
        raise ValueError(
            f"{cfg.tracker[TARGET]} is mounted at tracker, where several have their places; begin "
            "its YAML with the line `# @package tracker.<name>`"
        )
    return tuple(build(cfg.tracker, allow=allow).values())


def saved_part(node: DictConfig, *, allow: Sequence[str] = ()) -> Any:
    """The component that a node of a saved config describes.

    Args:
        node: Of :func:`rlcredit.commands.saved.saved_config`.
        allow: Packages from outside whose components may stand in it.

    Raises:
        ValueError: If it is no component of a declared package, or refuses a setting.
    """
    return build(typed(node, allow=allow), allow=allow)


def allowed_by_command(cfg: DictConfig) -> tuple[str, ...]:
    """The packages from outside that the words of the running command allow.

    Raises:
        ValueError: If a file says so.
    """
    allow = allowed(HydraConfig.get().overrides.task)
    if tuple(cfg.allow) != allow:
        raise ValueError(
            f"allow={list(cfg.allow)} stands in a file, and files allow no code; give it on the "
            "command line"
        )
    return allow


def estimator_config(name: str, words: Sequence[str] = ()) -> tuple[DictConfig, str]:
    """The config of an estimator in conf/estimator, beside the reward that train.py has by default.

    Args:
        name: Of the file.
        words: Further ones, as on the command line (``estimator/value=myerson``).

    Returns:
        The config, and the name of the loss that it picks.
    """
    beside = ("+reward=ndcg", "+rollout=hf", "+loss=dapo")  # the last it may override
    chosen = [*beside, f"+estimator={name}", *words]
    cfg = compose("parts", chosen, return_hydra_config=True)
    return cfg.estimator, str(cfg.hydra.runtime.choices.loss)


def retriever_configs(names: Sequence[str]) -> dict[str, DictConfig]:
    """The configs of retrievers by their names in conf/retriever, composed together."""
    places = {name: f"retriever_{index}" for index, name in enumerate(names)}
    if not places:
        return {}
    words = [f"+retriever@{place}={name}" for name, place in places.items()]
    cfg = compose("parts", overrides=words)
    return {name: cfg[place] for name, place in places.items()}


def config_text(cfg: DictConfig) -> str:
    """The config without Hydra's own node, references to other settings as they were written.

    What a resolver makes stands there as its value: whoever reads a file calls none.
    """
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    written = _without_resolvers(OmegaConf.to_container(own), cfg)
    return OmegaConf.to_yaml(OmegaConf.create(written))


def _without_resolvers(raw: Any, node: Any) -> Any:
    """The raw config, with the values of those settings that call a resolver."""
    if isinstance(raw, dict):
        return {key: _without_resolvers(raw[key], _within(node, key)) for key in raw}
    if isinstance(raw, list):
        return [_without_resolvers(item, _within(node, at)) for at, item in enumerate(raw)]
    return node if isinstance(raw, str) and RESOLVER.search(raw) else raw


def _within(node: Any, key: Any) -> Any:
    """The value at a key; None where it is missing, which a reference may be."""
    return None if OmegaConf.is_missing(node, key) else node[key]


def _config(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict), "the root of a config is a mapping"
    return {str(key): value for key, value in plain.items()}
