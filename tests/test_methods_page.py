"""METHODS.md says what the code does."""

import re
from pathlib import Path

import pytest

from scripts.make_methods import PAGE, chosen, filled
from tests.composing import built, names

TEXT = PAGE.read_text()
COMMANDS = re.findall(r"python train\.py (.*)", TEXT)


def test_the_tables_are_those_of_the_code():
    assert filled(TEXT) == TEXT, "run python scripts/make_methods.py"


@pytest.mark.parametrize("name", names("estimator"))
def test_every_estimator_has_a_heading_and_a_command_and_its_guard_where_it_needs_one(name):
    assert any(f"estimator={name}" in command.split() for command in COMMANDS)
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    family = {"winner_takes_all": "ShapE", "shape_loo": "ShapE", "shape": "ShapE"}.get(name, name)
    family = {"setpo": "SetPO", "lpo": "LPO", "lpo_reverse": "LPO"}.get(name, family)
    section = next(h for h in headings if re.search(rf"\b{family}\b", h))
    body = TEXT.split(f" {section}\n", 1)[1].split("\n#", 1)[0]
    estimator = built("estimator", name)
    finer = estimator.grain.value != "rollout"
    if estimator.centring.value == "none" or (finer and estimator.centring.value == "group"):
        assert "guard" in body.lower()
    assert "Cost" in body or "Costs" in body


def test_tests_that_the_page_names_exist():
    for path in re.findall(r"`(tests/[a-z_/]+(?:\.py)?)`", TEXT):
        assert (Path(PAGE).parent / path).exists(), path
    assert chosen("loss") == names("loss")
