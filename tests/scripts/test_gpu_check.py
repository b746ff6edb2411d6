"""The checks of a GPU, every way but its kernels, on the processor; and the bundle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from scripts import gpu_check
from scripts.gpu_bundle import LACKING, check_size, join, pinned, split
from scripts.gpu_models import QWEN2, QWEN3, SizedWork, small
from scripts.gpu_record import Check, Finding, Record, SkippedError, Status, judged
from scripts.gpu_speed import Arithmetic, _work
from tests.forked import command
from tests.rollout.toy import written

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def run(part, out, monkeypatch, *words):
    argv = ["gpu_check", "--part", part, "--device", "cpu", "--tiny", "--out", str(out), *words]
    monkeypatch.setattr(sys, "argv", argv)
    failed = gpu_check.main()
    rows = json.loads((out / f"gpu_check_{part}.json").read_text())["rows"]
    assert failed == sum(row["status"] == "failed" for row in rows)
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("only", ["packed = padded", "decoding", "deterministic", "LoRA", "tensor"])
def test_what_is_computed_is_right_on_the_processor_too(only, tmp_path, monkeypatch):
    rows = run("a", tmp_path, monkeypatch, "--only", only)
    assert rows
    assert {row["status"] for row in rows.values()} == {"passed"}, rows
    assert "not run on a GPU" in (tmp_path / "gpu_check_a.md").read_text()


@pytest.mark.filterwarnings("ignore")
def test_speed_is_measured_every_way_and_claims_nothing_of_a_gpu(tmp_path, monkeypatch):
    name = f"a step: {_work(QWEN3, CPU, 64, 8, tiny=True).name}"
    own = run("b", tmp_path, monkeypatch, "--only", "a step")
    assert len(own) == 4
    figures = own[name]["values"]
    for figure in ("samples/s", "MFU of the update", "share of the decode roofline"):
        assert figures[figure] > 0
    rows = run("b", tmp_path, monkeypatch, "--only", "Qwen3-0.6B, 2 x 2")
    assert rows[name] == own[name]  # what was measured is not measured again
    rival = next(row for row in rows.values() if row["name"].startswith("TRL"))
    assert rival["values"]["own is faster by"] > 0
    ways = next(row for row in rows.values() if row["name"].startswith("decoding"))
    assert {"dynamic s", "static s"} <= set(ways["values"])
    assert {row["status"] for row in rows.values()} == {"measured"}


def test_a_part_that_was_not_packed_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(gpu_check.PARTS, "g", "scripts.no_such_part")
    (row,) = run("g", tmp_path, monkeypatch).values()
    assert (row["status"], row["note"]) == ("skipped", "part g is not part of this bundle")


@pytest.mark.slow
def test_the_script_runs_every_part_by_itself(tmp_path):
    settings = os.environ | {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    for part in "aabccg":
        words = ["--part", part, "--device", "cpu", "--tiny", "--out", str(tmp_path)]
        done = subprocess.run(
            [str(ROOT / "scripts" / "gpu_check.sh"), *words],
            capture_output=True,
            text=True,
            env=settings,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads((tmp_path / "gpu_check_c.json").read_text())["rows"]
    assert [row["status"] for row in runs] == ["measured", "measured"]
    bench = json.loads((tmp_path / "gpu_check_g.json").read_text())["rows"]
    assert [row["status"] for row in bench] == ["passed", "measured", "measured", "skipped"]
    assert "draw more" in bench[-1]["note"]


def test_without_the_gpu_that_is_asked_for_nothing_is_checked(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    out = tmp_path / "out"
    words = ("--part", "a", "--out", str(out))
    done = command(ROOT / "scripts" / "gpu_check.py", *words, folder=tmp_path, search=[ROOT])
    assert done.status == 1
    assert "sees no CUDA device" in done.said
    assert not out.exists()


def record(tmp_path, limit_s=60.0):
    return Record(folder=tmp_path, part="a", device=CPU, limit_s=limit_s)


def test_a_record_is_written_as_it_grows_and_goes_on(tmp_path):
    looked = []

    def look(name, status):
        def once():
            looked.append(name)
            stored = json.loads((tmp_path / "gpu_check_a.json").read_text()) if looked[1:] else None
            assert stored is None or stored["rows"]
            if status == "skipped":
                raise SkippedError("no wheel")
            if status == "broken":
                raise RuntimeError("kernel | died")
            return Finding(status=Status(status), values={"x": 0.123456789})

        return Check(name=name, look=once, estimate_s=0)

    names = ("passed", "skipped", "broken", "measured")
    first = record(tmp_path)
    first.run([look(name, name) for name in names])
    assert first.failed == 1
    text = first.markdown.read_text()
    assert "| skipped | skipped (no wheel) |" in text
    assert "kernel / died" in text
    assert "x 0.1235" in text
    second = record(tmp_path)
    second.run([look(name, name) for name in names])
    assert looked == [*names, "broken"]  # what failed is tried again
    assert second.value("measured", "x") == 0.123456789
    assert second.value("measured", "y") is second.value("no such check", "x") is None


def test_a_record_ends_at_its_limit(tmp_path):
    def forever():
        time.sleep(60)
        return judged(True)

    began = time.monotonic()
    short = record(tmp_path, limit_s=1.0)
    checks = [
        Check(name="too long to begin", look=forever, estimate_s=50),
        Check(name="cut", look=forever, estimate_s=0),
    ]
    short.run(checks)
    assert time.monotonic() - began < 10
    assert short.rows == []
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_bytes_of_decoding_are_counted_by_hand():
    work = SizedWork.of(small(QWEN2, tiny=True), CPU)
    arithmetic = Arithmetic.of(work, work.model())
    rollouts = written(["ab", "abc"], ["a", ""])  # with the end 3, 4, 2, 1 tokens; prompts of 1
    weights, token = arithmetic.model.numbers, arithmetic.model.cache_numbers
    assert token == 2 * 2 * 2 * 8
    # the first tokens come from the prompts; then rows of 3, 4, 2, of 3, 4, and of 4 go on
    expected = 3 * weights + token * ((2 + 3 * 1) + (1 + 2 * 2) + (1 + 1 * 3))
    assert arithmetic.decode_bytes(rollouts, itemsize=2) == 2 * expected


def test_operations_of_an_update_are_counted_by_hand():
    work = SizedWork.of(small(QWEN3, tiny=True), CPU)
    arithmetic = Arithmetic.of(work, work.model())
    rollouts = written(["ab", "abc"])  # 1 token of the prompt, 2 and 3 that are read, 7 scored
    head = work.sizes.vocab_size * work.sizes.hidden_size
    body = arithmetic.model.numbers - head
    seen = 1 / 2 + (3 + 9 / 2) + (4 + 16 / 2)
    attention = 4 * 2 * 4 * 16 * seen
    assert arithmetic.update_flops(rollouts) == pytest.approx(
        3 * (2 * body * 6 + 2 * head * 7 + attention)
    )


def test_large_files_travel_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("scripts.gpu_bundle.PART", 1000)
    file = tmp_path / "weights.whl"
    file.write_bytes(bytes(range(256)) * 10)
    split(file, tmp_path / "out", "weights")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"weights-{n}" for n in (1, 2, 3)
    ]
    whole = join(tmp_path / "out", "weights", tmp_path / "there")
    assert whole is not None
    assert whole.read_bytes() == file.read_bytes()
    assert join(tmp_path / "out", "other", tmp_path) is None
    part = tmp_path / "out" / "weights-2" / "part"
    part.write_bytes(part.read_bytes()[::-1])
    with pytest.raises(ValueError, match="make another file; pack them again"):
        join(tmp_path / "out", "weights", tmp_path / "there")
    (tmp_path / "out" / "weights-3" / "part.json").unlink()
    with pytest.raises(ValueError, match="2 of 3 parts of weights"):
        join(tmp_path / "out", "weights", tmp_path / "there")


def test_a_bundle_that_cannot_be_carried_is_refused(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"1" * 2000)
    assert check_size(tmp_path) == 2000
    monkeypatch.setattr("scripts.gpu_bundle.LIMIT", 1500)
    with pytest.raises(ValueError, match="must stay below"):
        check_size(tmp_path)


def test_wheels_are_those_that_the_lock_pins():
    lines = pinned(LACKING, ROOT / "requirements.lock")
    assert [line.split("==")[0] for line in lines] == list(LACKING)
    with pytest.raises(ValueError, match="pins no no-such-package"):
        pinned(["no-such-package"], ROOT / "requirements.lock")


def test_shapes_are_the_published_ones():
    numbers = {}
    for sizes in (QWEN3, QWEN2):
        with torch.device("meta"):
            numbers[sizes.name] = sum(p.numel() for p in sizes.outline().parameters())
    assert numbers == {"Qwen3-0.6B": 596_049_920, "Qwen2.5-0.5B": 494_032_768}
