"""The type of a machine, and that ``make test-other-cpu`` computes as one of another type."""

import os
import subprocess
import sys
from pathlib import Path

import torch

from rlcredit.distributed.machine import machine_type
from rlcredit.policy.tiny import Tiny
from rlcredit.retrieval.bm25 import BM25
from rlcredit.rewards.caches import _name
from rlcredit.tasks.esci import ESCI
from tests.policy.toy import toy_task

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().splitlines()
(OTHER,) = [line.split(":=")[1] for line in MAKEFILE if line.startswith("OTHER_CPU :=")]
OTHER_CPU = dict(word.split("=") for word in OTHER.split())


def keys() -> tuple[str, ...]:
    """Of what is computed here: the type, a kept policy's key, a remembered reward's name."""
    return machine_type(), Tiny()._key(toy_task(), 0), _name(("bm25", "red tent")).hex()


def digests(cache: Path) -> tuple[str, ...]:
    """Of a generated data set, whose pools are ranked by TF-IDF, and of its index."""
    task = ESCI().load()
    return task.digest, BM25().index(task.documents, cache=cache).digest


def printed(program: str, **switches: str) -> list[str]:
    """By a process of its own, since libraries choose their routines when they are loaded."""
    command = [sys.executable, "-c", program]
    environment = os.environ | switches
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_every_switch_makes_another_type():
    """Without a switch every process is of one type: tests/e2e/test_string_hashing.py."""
    program = "from rlcredit.distributed.machine import machine_type; print(machine_type())"
    switches = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA")
    found = {name: printed(program, **{name: OTHER_CPU[name]})[0] for name in switches}
    assert len({machine_type(), *found.values()}) == 1 + len(switches), found


def test_another_type_of_machine_finds_other_kept_bits_under_the_same_digests(tmp_path):
    program = "from pathlib import Path; from tests.distributed.test_machine import digests, keys; "
    program += f"print(*keys(), *digests(Path({str(tmp_path)!r})))"
    other = printed(program, **OTHER_CPU)
    assert all(mine != theirs for mine, theirs in zip(keys(), other[:3], strict=True))
    assert other[3:] == list(digests(tmp_path))


def test_threads_are_no_part_of_the_type_so_that_processes_share_a_warm_start():
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            machine_type.cache_clear()
            found.append(machine_type())
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
