"""A device that is not there, too small, or without a number format is refused before loading."""

import pytest
import torch

from rlcredit.commands.train import start
from rlcredit.policy.footprint import MemoryLine
from rlcredit.run import device as run_device
from rlcredit.run.device import (
    DeviceError,
    refuse_absent,
    refuse_beyond,
    refuse_without_bfloat16,
)
from rlcredit.trainer.memory import DoesNotFitError
from rlcredit.trainer.plan import GIB, MemoryPlan


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    assert refuse_absent("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = r"device=cuda: torch .* sees no CUDA device here \(CUDA_VISIBLE.*set trainer\.device=cpu"
    with pytest.raises(DeviceError, match=said):
        refuse_absent("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert refuse_absent("cuda:1").index == 1
    with pytest.raises(DeviceError, match=r"cuda:2: .* sees 2 CUDA devices"):
        refuse_absent("cuda:2")
    with pytest.raises(DeviceError, match=r"trainer\.device=gpu is no device of torch; give cpu"):
        refuse_absent("gpu")


def test_a_gpu_without_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla V100")
    asked = []

    def supported(*, including_emulation):
        asked.append(including_emulation)
        return len(asked) > 1

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    with pytest.raises(DeviceError, match=r"Tesla V100 computes no bfloat16.*autocast=false"):
        refuse_without_bfloat16(torch.device("cuda"))
    refuse_without_bfloat16(torch.device("cuda"))
    assert asked == [False, False]


def test_a_gpu_that_is_too_small_is_refused_with_the_arithmetic():
    plan = MemoryPlan(lines=(MemoryLine(what="weights", num_bytes=30 * GIB),))
    refuse_beyond(plan, 40 * GIB, name="cuda")
    said = (
        r"needs 30\.0 GiB .*, and cuda has 24\.0 GiB:\n +30\.000 GiB  weights.*\n.*\nTrain adapter"
    )
    with pytest.raises(DoesNotFitError, match=said):
        refuse_beyond(plan, 24 * GIB, name="cuda")


SMALL = ["dataset=esci", "size=smoke", "tracker=jsonl"]


def test_a_plan_is_printed_and_nothing_is_made(tmp_path, capsys):
    words = [f"cache={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}"]
    start([*SMALL, *words, "trainer.plan=true", "trainer=fsdp"])
    said = capsys.readouterr().out
    assert "memory in each of 2 processes, by arithmetic" in said
    for line in ("weights (always)", "two gathered units (update)", "peak: what lies there"):
        assert line in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("total", "half", "error", "said"),
    [
        (2**10, True, DoesNotFitError, r"before the first batch.*weights \(always\)"),
        (2**40, False, DeviceError, "computes no bfloat16"),
    ],
)
def test_a_run_is_refused_before_its_policy_is_made(
    total, half, error, said, tmp_path, monkeypatch
):
    """The GPU is made up, and a run that goes beyond the check would fail for want of one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: half)
    monkeypatch.setattr(run_device, "total_memory", lambda device: total)
    words = [f"cache={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}", "resume=never"]
    with pytest.raises(error, match=f"(?s){said}"):
        start([*SMALL, *words, "trainer=gpu", "trainer.autocast=true"])
    assert not (tmp_path / "cache" / "policies").exists()
