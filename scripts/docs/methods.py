"""Tables of the methods, from the code: what each is made of, and what it costs."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from rlcredit.commands.components import build
from rlcredit.commands.schema import register

CONF = Path(__file__).parents[2] / "conf"
NUM_SEGMENTS = 8


def chosen(group: str) -> list[str]:
    """The public names of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*words: str) -> DictConfig:
    """What words choose, beside what estimators and losses take settings from."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = ["+rollout=hf", "+reward=ndcg", *words]
        return compose("parts", overrides=chosen, return_hydra_config=True)


def every(group: str) -> dict[str, Any]:
    """All parts of a group, by their public names."""
    cfg = composed(*(f"+{group}@parts.{name}={name}" for name in chosen(group)))
    return {name: build(cfg.parts[name]) for name in chosen(group)}


def row(*cells: object) -> str:
    """One line of a table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(*head: str, rows: list[str]) -> str:
    """A table in Markdown."""
    return "\n".join([row(*head), row(*("---" for _ in head)), *rows])


def evaluations(plan: Any) -> int:
    """Coalitions whose reward is asked for, besides the response's own reward."""
    return max(len(plan(NUM_SEGMENTS, torch.Generator())) - 2, 0)


def settings(component: Any) -> str:
    """The fields of a component and their values."""
    values = ((f.name, getattr(component, f.name)) for f in fields(component))
    plain = (f"{name}={_shown(value)}" for name, value in values)
    return ", ".join(plain) or "-"


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return type(value).__name__ if hasattr(value, "__dataclass_fields__") else f"{value}"


def needed(estimator: Any) -> str:
    """What must be computed for an estimator, and how much of it for 8 segments."""
    needs = estimator.needs
    parts = []
    if needs.coalitions is not None:
        parts.append(f"{evaluations(needs.coalitions)} coalitions")
    if needs.candidates:
        parts.append("each candidate's reward")
    if needs.embeddings:
        parts.append("an embedding")
    if needs.continuations:
        count = needs.continuations * (NUM_SEGMENTS - 1)
        parts.append(f"{count} continuations")
    if needs.sum_pi_squared:
        parts.append("a forward pass")
    return ", ".join(parts) or "-"


def estimators() -> str:
    """Every estimator."""
    rows = []
    for name in chosen("estimator"):
        cfg = composed("+loss=dapo", f"+estimator={name}")  # which may choose a loss of its own
        estimator, loss = build(cfg.estimator), cfg.hydra.runtime.choices.loss
        what = f"`{type(estimator).__name__}({settings(estimator)})`"
        grain, centring = estimator.grain.value, estimator.centring.value
        rows.append(row(f"`{name}`", what, grain, centring, needed(estimator), f"`{loss}`"))
    head = "`estimator=`", "what it builds", "grain", "centring", "needs", "loss"
    return table(*head, rows=rows)


def losses() -> str:
    """Every loss."""
    rows = []
    for name, loss in every("loss").items():
        grain = "token" if loss.takes_tokens else "rollout"
        whole = "yes" if loss.couples_group else "no"
        what = f"`{type(loss).__name__}({settings(loss)})`"
        rows.append(row(f"`{name}`", what, grain, whole))
    return table("`loss=`", "what it builds", "finest credit", "couples the group", rows=rows)


def values() -> str:
    """Every value of segments."""
    rows = []
    for name, value in every("estimator/value").items():
        summary = (type(value).__doc__ or "").splitlines()[0]
        rows.append(row(f"`{name}`", summary, evaluations(value.plan), f"`{settings(value)}`"))
    return table("`estimator/value=`", "value", "coalitions, 8 segments", "settings", rows=rows)


def constructions() -> str:
    """Every construction of advantages."""
    rows = []
    for name, construction in every("estimator/construction").items():
        summary = (type(construction).__doc__ or "").splitlines()[0]
        cells = summary, construction.centring.value, f"`{settings(construction)}`"
        rows.append(row(f"`{name}`", *cells))
    return table("`estimator/construction=`", "advantage", "centring", "settings", rows=rows)
