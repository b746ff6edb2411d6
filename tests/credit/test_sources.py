"""Every public function of the credit floor says where its formula comes from."""

import ast
from pathlib import Path

import rlcredit.credit

FILES = sorted(Path(rlcredit.credit.__file__).parent.glob("[a-z]*.py"))
FUNCTIONS = {
    f"{path.stem}.{node.name}": node
    for path in FILES
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
}
SOURCES = ("arXiv:", "standard", "derived here")


def test_every_function_cites_its_source():
    texts = {name: (ast.get_docstring(node) or "").lower() for name, node in FUNCTIONS.items()}
    assert len(texts) > 40
    unsourced = [n for n, text in texts.items() if not any(s.lower() in text for s in SOURCES)]
    assert unsourced == []


def test_what_can_be_refused_is_said():
    raising = {
        name: ast.get_docstring(node) or ""
        for name, node in FUNCTIONS.items()
        if any(isinstance(each, ast.Raise) for each in ast.walk(node))
    }
    assert raising
    silent = [
        n for n, text in raising.items() if "Raises:" not in text and "ValueError" not in text
    ]
    assert silent == []
