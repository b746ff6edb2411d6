"""Commands that are printed can be pasted."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from rlcredit.errors import pasted

HARD = ["a b", "it's", 'say "x"', "a,b", "a=b", "[x]", "{x: 1}", "é/é", "a\\", 'a\\"b', "null", "3"]


@pytest.mark.parametrize("path", HARD)
def test_a_path_goes_through_the_shell_and_hydra_unchanged(path):
    command, word, override = shlex.split(pasted("rlcredit evaluate", run=path))
    assert (command, word) == ("rlcredit", "evaluate")
    assert OverridesParser.create().parse_override(override).value() == path


def test_a_plain_path_stays_readable():
    folder = "outputs/esci/grpo/seed0-1a2b"
    assert pasted("rlcredit replay", batch=folder) == f"rlcredit replay batch={folder}"
