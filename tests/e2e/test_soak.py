"""Runs that cannot be spoiled: whatever happens to them, no reader shows a wrong number."""

import os
import random

import pytest

from tests.e2e.soak import soak

SECONDS = float(os.environ.get("RLCREDIT_SOAK_SECONDS", "1800"))
SEED = int(os.environ.get("RLCREDIT_SOAK_SEED", random.SystemRandom().randrange(10**6)))


@pytest.mark.faults
@pytest.mark.timeout(SECONDS + 1200)  # what is under way is ended, behind runs that are compared
def test_whatever_happens_to_a_run_its_numbers_are_right_or_refused(tmp_path, cache):
    found = soak(tmp_path / "soak", cache, seconds=SECONDS, seed=SEED)
    shown = {key: value for key, value in found.items() if key != "faults"}
    print(f"soak, RLCREDIT_SOAK_SEED={SEED}: {shown}; {tmp_path}/soak/soak.json")
    assert found["cases"] > 0
    assert found["faults"] == []
