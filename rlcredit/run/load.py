"""A run's files as plain values, for notebooks and scripts of one's own."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rlcredit.files import without_check
from rlcredit.run.seal import verify

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
"""A setting that is taken from another one: ``${reward.utility}``."""


@dataclass(frozen=True, kw_only=True)
class SavedRun:
    """What a finished run left, read by :func:`load_run`."""

    folder: Path
    summary: Mapping[str, Any]
    """``summary.json``: digest, versions, wall time, every measure before and after training."""
    metrics: tuple[Mapping[str, Any], ...]
    """``metrics.jsonl``: a mapping a step, from a metric's name to its value."""
    config: Mapping[str, Any]
    """``.hydra/config.yaml``, with references to other settings replaced by their values."""
    responses: tuple[Mapping[str, Any], ...]
    """``completions.jsonl``: a mapping a response of training, with its segments' credit."""
    evaluations: tuple[Mapping[str, Any], ...]
    """``evaluations/*.json``: every prompt's scores, before and after training."""

    def metrics_frame(self) -> Any:
        """The metrics as a ``pandas.DataFrame``: a row a step, a column a metric.

        Raises:
            ModuleNotFoundError: If pandas is not installed.
        """
        return _frame(self.metrics)

    def responses_frame(self) -> Any:
        """The responses of training as a ``pandas.DataFrame``; its ``segments`` are lists.

        Raises:
            ModuleNotFoundError: If pandas is not installed.
        """
        return _frame(self.responses)

    def scores_frame(self) -> Any:
        """The evaluations as a ``pandas.DataFrame``: a row a prompt, measure, retriever and writer.

        The columns are ``split``, ``phase``, ``retriever``, ``measure``, ``source``, ``prompt_id``
        and ``score``.

        Raises:
            ModuleNotFoundError: If pandas is not installed.
        """
        return _frame(
            {
                "split": evaluation["split"],
                "phase": evaluation["phase"],
                "retriever": cell["retriever"],
                "measure": cell["measure"],
                "source": cell["source"],
                "prompt_id": prompt,
                "score": value,
            }
            for evaluation in self.evaluations
            for cell in evaluation["scores"]
            for prompt, value in zip(evaluation["prompt_ids"], cell["values"], strict=True)
        )


def load_run(folder: str | Path) -> SavedRun:
    """Read the folder of a finished run. Needs neither its data nor the extra ``train``.

    Args:
        folder: ``outputs/<dataset>/<estimator>/seed<k>-<digest8>``, or its own ``hydra.run.dir``.

    Raises:
        FileNotFoundError: If a file of a finished run is missing.
        ValueError: If a file is damaged: which, where, and what to do.
    """
    folder = Path(folder)
    summary = _mapping(folder / "summary.json", _unchecked)
    verify(folder, summary.get("record", {}), finished=True)
    config = _mapping(folder / ".hydra" / "config.yaml", yaml.safe_load)
    return SavedRun(
        folder=folder,
        summary=summary,
        metrics=_lines(folder / "metrics.jsonl"),
        config={str(name): _resolved(value, config) for name, value in config.items()},
        responses=_lines(folder / "completions.jsonl"),
        evaluations=tuple(
            _mapping(path, _unchecked) for path in sorted((folder / "evaluations").glob("*.json"))
        ),
    )


def _lines(path: Path) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        _parsed(line, json.loads, f"{path}, line {number},")
        for number, line in enumerate(_text(path).splitlines(), 1)
    )


def _frame(rows: Iterable[Mapping[str, Any]]) -> Any:
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "data frames need pandas, which is not installed; install it by: pip install "
            "'rlcredit[train]'",
            name=error.name,
        ) from error
    return pandas.DataFrame(list(rows))


def _mapping(path: Path, read: Any) -> Mapping[str, Any]:
    return _parsed(_text(path), read, str(path))


def _unchecked(text: str) -> Any:
    value = json.loads(text)
    return without_check(value) if isinstance(value, Mapping) else value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"there is no {path}; give the folder of a finished run. An unfinished one goes on by "
            "the command that began it"
        ) from error


def _parsed(text: str, read: Any, where: str) -> Mapping[str, Any]:
    try:
        value = read(text)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(
            f"{where} is damaged ({' '.join(str(error).split())}); start the run anew with "
            "resume=never"
        ) from error
    if not isinstance(value, Mapping):
        raise ValueError(
            f"{where} holds {type(value).__name__}, and a mapping was written there; start the run "
            "anew with resume=never"
        )
    return value


def _resolved(value: Any, config: Mapping[str, Any]) -> Any:
    """A part of a config with every reference replaced by what it names.

    Raises:
        ValueError: If a reference names nothing.
    """
    if isinstance(value, Mapping):
        return {str(name): _resolved(part, config) for name, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, config) for part in value]
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        return value
    named: Any = config
    for name in reference[1].split("."):
        if not isinstance(named, Mapping) or name not in named:
            raise ValueError(f"the config refers to {value}, which it does not hold; it was edited")
        named = named[name]
    return _resolved(named, config)
