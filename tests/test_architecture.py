"""The plan of the house, as tests: imports point down, files and functions stay small."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "rlcredit"
FLOORS = [
    {"types", "identity", "errors", "files", "code"},
    {"credit", "distributed"},
    {"estimators", "losses"},
    {"text", "retrieval"},
    {"rewards"},
    {"scoring"},
    {"tasks"},
    {"policy"},
    {"rollout"},
    {"trainer", "tracking"},
    {"checkpoint", "evaluation"},
    {"diagnose"},
    {"run"},
    {"report"},
    {"tables", "bench"},
    {"integrations"},
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


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imports(path: Path) -> list[str]:
    names = []
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively; write the whole name"
            names += [f"{node.module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names += [a.name for a in node.names]
    return names


def room(path: Path) -> str:
    """The package, or the module beside the packages, that a file belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def test_every_package_has_a_floor():
    assert {room(path) for path in FILES} - {"__init__"} == set(FLOOR)


def test_imports_point_down():
    up, aside = [], []
    for path in (path for path in FILES if room(path) != "__init__"):
        here = room(path)
        for name in (name for name in imports(path) if name.startswith("rlcredit.")):
            there = name.split(".")[1]
            if FLOOR[there] > FLOOR[here]:
                up.append(f"{path.relative_to(ROOT)} imports {name}")
            if there != here and any({there, here} <= pair for pair in SIBLINGS):
                aside.append(f"{path.relative_to(ROOT)} imports {name}")
    assert (up, aside) == ([], [])


def test_credit_is_pure_tensor_mathematics():
    paths = list((PACKAGE / "credit").glob("*.py"))
    assert paths
    assert {name.split(".")[0] for path in paths for name in imports(path)} <= CREDIT_MAY_IMPORT


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


def test_files_and_functions_stay_small():
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > 500} == {}
    functions = {
        f"{path.relative_to(ROOT)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in FILES
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > 60} == {}


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
