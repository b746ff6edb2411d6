"""The plan of the house, as tests: imports point down, files and functions stay small."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rlcredit"
FLOORS = [
    {"types", "identity", "errors", "machine", "saved_run"},
    {"credit", "distributed"},
    {"estimators", "losses"},
    {"text", "retrieval"},
    {"rewards"},
    {"data"},
    {"policy"},
    {"rollout"},
    {"trainer", "tracking"},
    {"checkpoint", "evaluation"},
    {"diagnose"},
    {"run"},
    {"report"},
    {"tables", "bench"},
    {"commands"},
    {"__main__"},
]
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
SIBLINGS = [
    {"estimators", "losses"},
    {"trainer", "tracking"},
    {"checkpoint", "evaluation"},
    {"tables", "bench"},
]
CREDIT_MAY_IMPORT = {"torch", "jaxtyping", "math", "enum", "dataclasses", "collections", "rlcredit"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


def test_every_package_has_a_floor():
    names = {p.relative_to(PACKAGE).with_suffix("").parts[0] for p in FILES} - {"__init__"}
    assert names == set(FLOOR)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    here = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "rlcredit" or len(parts) < 2 or here == "__init__":
            continue
        assert FLOOR[parts[1]] <= FLOOR[here], f"{path.name} imports {name}, a floor above"
        for pair in SIBLINGS:
            assert parts[1] == here or not {parts[1], here} <= pair, f"{name} is a sibling"


@pytest.mark.parametrize("path", sorted((PACKAGE / "credit").glob("*.py")), ids=lambda p: p.name)
def test_credit_is_pure_tensor_mathematics(path):
    assert {name.split(".")[0] for name in imports(path)} <= CREDIT_MAY_IMPORT


def test_methods_do_not_import_each_other():
    for folder in ("estimators", "losses"):
        for path in (PACKAGE / folder).glob("*.py"):
            if path.name == "__init__.py":
                continue
            for name in imports(path):
                parts = name.split(".")
                if parts[:2] == ["rlcredit", folder]:
                    assert parts[2] == "base", f"{path.name} imports {name}; only base is shared"


def test_hydra_is_known_to_commands_alone():
    users = {
        path.parent
        for path in FILES
        if any(name.split(".")[0] in {"hydra", "omegaconf"} for name in imports(path))
    }
    assert users == {PACKAGE / "commands"}


def test_wandb_is_imported_in_one_file():
    users = [p.name for p in FILES if any(n.split(".")[0] == "wandb" for n in imports(p))]
    assert users == ["wandb.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert text.count("\n") <= 500
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= 60, f"{node.name} has {lines} lines"


def test_nothing_dangerous_is_called():
    forbidden = re.compile(
        r"\bimport pickle\b|(?<![.\w])eval\(|\bexec\(|trust_remote_code\s*=\s*True|torch\.load\(|"
        r"(?<!default_generator\.)manual_seed\((?!bits)|np\.random\.(seed|rand|randn|choice|shuffle)\b|except:"
    )
    for path in [*FILES, ROOT / "train.py", *(ROOT / "scripts").glob("*.py")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("#")[0]
            assert not forbidden.search(code), f"{path.name}:{number}: {line.strip()}"


def test_every_package_says_what_is_public():
    for path in PACKAGE.glob("*/__init__.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path} needs a docstring"
        kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
        assert all(isinstance(node, kinds) for node in tree.body), f"{path} holds code"


def test_no_two_test_files_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
