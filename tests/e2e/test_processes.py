import ast
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from rlcredit.commands.train import run as run_config
from rlcredit.distributed.board import RankError
from rlcredit.distributed.launcher import Start, start_processes
from rlcredit.run.launch import no_sentence
from tests.distributed.worlds import recorded
from tests.e2e.running import ROOT, SMALL, composed, metrics, run
from tests.forked import command

JOB = ("estimator=ospo", "evaluation.retrievers=[bm25]")


@pytest.fixture(scope="module")
def one(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("one")
    run(folder, f"cache={cache}", *JOB)
    return folder


def assert_alike(folder, one):
    """To float32: the same responses, and figures that differ in their last bits."""
    assert (folder / "trec" / "test-after").exists()
    for name in ("completions.jsonl", "evaluations/test-before.json"):
        assert (folder / name).read_text() == (one / name).read_text()
    for mine, other in zip(metrics(folder), metrics(one), strict=True):
        assert mine == pytest.approx(other, rel=1e-4, abs=1e-5)


def test_two_processes_leave_the_folder_that_one_leaves(tmp_path, cache, one):
    run(tmp_path, f"cache={cache}", *JOB, "trainer=ddp")
    assert_alike(tmp_path, one)
    assert {p.name for p in tmp_path.iterdir()} == {p.name for p in one.iterdir()}
    touches = (tmp_path / "test_touches.jsonl").read_text().splitlines()
    assert len(touches) == 2  # of the first process alone: before and after
    said = run(tmp_path, f"cache={cache}", *JOB, "trainer=ddp")
    assert "holds this very run, finished" in said


@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_every_process_meets_the_others_in_the_same_order(tmp_path, cache, trainer):
    words = [f"cache={cache}", *JOB, f"trainer={trainer}", "evaluation.every=1"]
    job = composed(*SMALL, *words, "trainer.checkpoint_every=1")
    two = Start(processes=2, device="cpu", timeout_s=60.0)
    ranks = {"explain": no_sentence}
    with pytest.raises(RankError, match="ended with 143"):  # told to stop, and the other with it
        start_processes(recorded, (job, tmp_path / "run", tmp_path / "first", 2), two, **ranks)
    start_processes(recorded, (job, tmp_path / "run", tmp_path / "second", 0), two, **ranks)
    for sitting, steps in (("first", (1, 2)), ("second", (3, 4))):
        first, other = ((tmp_path / sitting / f"{rank}.txt").read_text() for rank in (0, 1))
        assert first.splitlines() == other.splitlines()
        for step in steps:
            assert f"whole in the evaluation after step {step}" in first
            assert f"CheckpointWriter.start in the checkpoint of step {step}" in first
    assert "the checkpoint of step 3" not in (tmp_path / "first" / "0.txt").read_text()
    assert "whole in the export" in first


def test_what_the_first_process_does_alone_waits_for_no_other():
    """No call of ``run/session.py`` that meets other processes stands under ``world.leads``."""
    meeting = {"largest", "gather", "sum", "wait", "copy_first", "enter", "whole", "start", "test"}
    meeting |= {"validate", "train", "conclude", "checkpoint", "_after", "_stop", "restore"}
    tree = ast.parse((ROOT / "rlcredit" / "run" / "session.py").read_text())
    alone = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If | ast.IfExp) and "leads" in ast.unparse(node.test)
    ]
    assert len(alone) >= 5
    for node in alone:
        body = node.body if isinstance(node.body, list) else [node.body]
        called = {
            each.func.attr
            for part in body
            for each in ast.walk(part)
            if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)
        }
        assert not called & meeting, ast.unparse(node)


def test_more_processes_than_prompts_are_refused():
    with pytest.raises(ValueError, match=r"trainer.processes=4 is more than .*prompts_per_step=3"):
        composed(*SMALL, "trainer.processes=4")


def test_processes_that_were_started_together_are_refused_for_a_sweep(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [*SMALL, "hydra.mode=MULTIRUN", "hydra.runtime.output_dir=nowhere"]
        cfg = compose("train", overrides=overrides, return_hydra_config=True)
        HydraConfig.instance().set_config(cfg)
        with pytest.raises(
            ValueError, match=r"2 processes were started together .* asks for a sweep"
        ):
            run_config(cfg)


@pytest.mark.slow
def test_two_processes_that_are_told_to_stop_go_on_with_the_same_bits(tmp_path, cache):
    words = [f"cache={cache}", *JOB, "trainer=ddp", "trainer.checkpoint_every=1", "trainer.steps=8"]
    straight, folder = tmp_path / "straight", tmp_path / "run"
    run(straight, *words)
    command = [sys.executable, "train.py", *SMALL, *words, f"hydra.run.dir={folder}"]
    job = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 240
    while not (folder / "checkpoints" / "step-000003").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job.terminate()
    assert job.wait(timeout=120) == 143
    assert metrics(folder)[-1]["step"] < 8
    run(folder, *words)
    assert metrics(folder) == metrics(straight)
    for name in ("completions.jsonl", "policy/model.safetensors"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes()


def test_two_processes_that_know_rank_and_address_are_one_run(tmp_path):
    small = ["trainer.steps=1", "evaluation.every=0", "evaluation.max_prompts=1"]
    small += ["policy.warm_start.steps=20"]
    more = "trainer.processes=3"  # not counted: the processes are there already
    words = [*SMALL, *small, more, f"cache={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"]
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def start(rank):
        folder = tmp_path / rank
        folder.mkdir()
        environment = meeting | {"RANK": rank}
        return command(ROOT / "train.py", *words, folder=folder, environment=environment)

    with ThreadPoolExecutor() as pool:
        first, other = pool.map(start, ("0", "1"))
    assert (first.status, other.status) == (0, 0)
    assert "nDCG@10" in first.said
    assert other.said == ""
    assert [line["step"] for line in metrics(tmp_path / "run")] == [0, 1]
    touches = (tmp_path / "run" / "test_touches.jsonl").read_text().splitlines()
    assert len(touches) == 2  # of the first process alone: before and after


@pytest.mark.slow
def test_two_machines_meet_through_torchrun(tmp_path, cache, one):
    words = [*SMALL, *JOB, f"cache={cache}", f"hydra.run.dir={tmp_path / 'run'}"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    meeting = ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:29473", "--rdzv-id=seven"]
    command = [*torchrun, *meeting, "train.py", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    machines = [subprocess.Popen(command, cwd=ROOT, env=environment) for _ in range(2)]
    assert [machine.wait(timeout=250) for machine in machines] == [0, 0]
    assert_alike(tmp_path / "run", one)
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").exists()
