"""Runs that cannot be spoiled: whatever happens to them, no reader shows a wrong number."""

import os
import random

import pytest

from tests.e2e.readers import outcome
from tests.e2e.soak import soak

SECONDS = float(os.environ.get("RLCREDIT_SOAK_SECONDS", "1800"))
SEED = int(os.environ.get("RLCREDIT_SOAK_SEED", random.SystemRandom().randrange(10**6)))


CLEAN = "said | OSPO | 0.220 |\ntook 4.2 s, revision 9f0c27ab1e\n"


@pytest.mark.parametrize(
    ("said", "judged"),
    [
        ("said | OSPO | 0.220 |\ntook 61 s, revision 0d1c27ab1e\n", "identical"),
        ("said | OSPO | 0.221 |\ntook 4.2 s, revision 9f0c27ab1e\n", "silent"),
        ("said | OSPO | |\n", "silent"),
        ("said | OSPO | |\nmetrics.jsonl is damaged: 12 bytes\n", "refused"),
        ("said | OSPO | 0.221 |\nmetrics.jsonl is damaged: 12 bytes\n", "silent"),
        ("refused the record is damaged", "refused"),
        ("crashed Traceback", "crashed"),
    ],
)
def test_another_number_is_silently_wrong_unless_a_line_says_what_is_not_shown(said, judged):
    assert outcome(said, CLEAN) == judged


@pytest.mark.faults
@pytest.mark.timeout(SECONDS + 1200)  # what is under way is ended, behind runs that are compared
def test_whatever_happens_to_a_run_its_numbers_are_right_or_refused(tmp_path, cache):
    found = soak(tmp_path / "soak", cache, seconds=SECONDS, seed=SEED)
    shown = {key: value for key, value in found.items() if key != "faults"}
    print(f"soak, RLCREDIT_SOAK_SEED={SEED}: {shown}; {tmp_path}/soak/soak.json")
    assert found["cases"] > 0
    assert found["faults"] == []
