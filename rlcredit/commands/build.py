"""From a composed config to objects. The composition root."""

from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from rlcredit.commands.schema import (
    evaluation_digest,
    run_digest,
    run_identity,
    schema,
)
from rlcredit.commands.sweep import sweep_group
from rlcredit.errors import raised_here
from rlcredit.job import Job
from rlcredit.trainer.pairing import check_pairing


def job(cfg: DictConfig) -> Job:
    """Build every component of a config; the folder and the data are not touched.

    Raises:
        ValueError: If a value is out of range, or an estimator and a loss do not go together.
    """
    if cfg.table is not None:
        raise ValueError(
            "this experiment declares a table, not a run; make it with rlcredit tables --size smoke"
        )
    choices = HydraConfig.get().runtime.choices
    parts = {name: build(cfg[name]) for name in _COMPONENTS}
    check_pairing(
        parts["estimator"],
        parts["loss"],
        group_size=parts["trainer"].group_size,
        num_candidates=parts["dataset"].candidates,
        scores_parts=parts["reward"].scores_parts,
    )
    names = [*dict.fromkeys([str(choices["retriever"]), *cfg.evaluation.retrievers])]
    return Job(
        seed=cfg.seed,
        resume=cfg.resume,
        cache=Path(cfg.cache),
        digest=run_digest(cfg),
        identity=run_identity(cfg),
        evaluation_digest=evaluation_digest(cfg),
        config=_config(cfg),
        dataset_name=str(choices["dataset"]),
        estimator_name=str(choices["estimator"]),
        retriever_name=str(choices["retriever"]),
        retrievers={
            name: build(cfg.retriever if index == 0 else retriever_config(name))
            for index, name in enumerate(names)
        },
        group=sweep_group(),
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
    "tracker",
    "evaluation",
)


def saved_config(run: Path) -> DictConfig:
    """What a run folder says the run was made of.

    Raises:
        ValueError: If it is no run folder.
    """
    path = run / ".hydra" / "config.yaml"
    if not path.exists():
        raise ValueError(f"{run} is no run folder: it has no .hydra/config.yaml; give run=<folder>")
    saved = OmegaConf.load(path)
    assert isinstance(saved, DictConfig), "the root of a config is a mapping"
    return saved


def typed(node: DictConfig) -> DictConfig:
    """A component's node read back from a file, with the types of its schema (enums above all)."""
    whole = OmegaConf.structured(schema(get_class(node["_target_"])))
    merged = OmegaConf.merge(whole, node)
    assert isinstance(merged, DictConfig), "a component is a mapping"
    return merged


def build(node: DictConfig) -> Any:
    """Instantiate a component; its own complaint comes through unwrapped."""
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if cause is not None and raised_here(cause):
            raise cause from None
        raise


def retriever_config(name: str) -> DictConfig:
    """The config of a retriever by its name in conf/retriever."""
    return compose("train", overrides=[f"retriever={name}"]).retriever


def _config(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict), "the root of a config is a mapping"
    return {str(key): value for key, value in plain.items()}
