"""Every public function of the credit floor says where its formula comes from."""

import ast
from pathlib import Path

import pytest

import rlcredit.credit

FILES = sorted(Path(rlcredit.credit.__file__).parent.glob("[a-z]*.py"))
FUNCTIONS = [
    pytest.param(node, id=f"{path.stem}.{node.name}")
    for path in FILES
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]
SOURCES = ("arXiv:", "standard", "derived here")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_it_cites_its_source(function):
    text = ast.get_docstring(function) or ""
    assert any(source.lower() in text.lower() for source in SOURCES)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_can_be_refused_is_said(function):
    raises = any(isinstance(node, ast.Raise) for node in ast.walk(function))
    text = ast.get_docstring(function) or ""
    if raises:
        assert "Raises:" in text or "ValueError" in text
