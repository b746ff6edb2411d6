"""A run's folder: owned by one process, and cleared of nothing that is not the run's."""

import errno
import fcntl
import json
import os

import pytest

from rlcredit.run.ownership import (
    LOCK_FILE,
    FolderError,
    clear,
    new_run_id,
    owned,
    refuse_foreign,
    run_id,
    write_config,
)
from tests.forked import FORKED

DIGEST = "0123456789abcdef" * 2


def hold(folder, held):
    with owned(folder, wait=False, warn=print):
        held.send("held")
        held.recv()


@pytest.fixture
def holder(tmp_path):
    """Another process that owns the folder."""
    ours, theirs = FORKED.Pipe()
    process = FORKED.Process(target=hold, args=(tmp_path, theirs))
    process.start()
    assert ours.recv() == "held"
    yield process
    process.kill()
    process.join()


def never(text):
    raise AssertionError(f"warned: {text}")


def test_a_second_process_is_refused_until_the_first_is_killed(tmp_path, holder):
    with (
        pytest.raises(FolderError, match=f"in use by process {holder.pid} on .*resume=wait"),
        owned(tmp_path, wait=False, warn=never),
    ):
        pass
    holder.kill()
    holder.join()
    with owned(tmp_path, wait=False, warn=never):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["released"]


def test_waiting_ends_with_the_other_process(tmp_path, holder, monkeypatch):
    said = []

    def meanwhile(seconds):
        holder.kill()
        holder.join()

    monkeypatch.setattr("rlcredit.run.ownership.time.sleep", meanwhile)
    with owned(tmp_path, wait=True, warn=said.append):
        pass
    assert len(said) == 1
    assert "waiting for its end" in said[0]


def test_a_file_closed_in_the_process_keeps_the_lock(tmp_path, holder):
    with pytest.raises(FolderError), owned(tmp_path, wait=False, warn=never):
        pass  # a lockf of this process would have been dropped by the close that this attempt made
    with pytest.raises(FolderError), owned(tmp_path, wait=False, warn=never):
        pass


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    said = []
    monkeypatch.setattr(fcntl, "flock", refuse)
    with owned(tmp_path, wait=False, warn=said.append):
        pass
    assert len(said) == 1
    assert "refuses locks (No locks available)" in said[0]


def test_a_lock_that_another_machine_never_released_is_said(tmp_path):
    other = {"host": "elsewhere", "pid": 7, "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / LOCK_FILE).write_text(json.dumps(other))
    said = []
    with owned(tmp_path, wait=False, warn=said.append):
        pass
    assert len(said) == 1
    assert "process 7 on elsewhere" in said[0]
    (tmp_path / LOCK_FILE).write_text(json.dumps(other | {"released": True}))
    with owned(tmp_path, wait=False, warn=never):
        pass


def test_somebody_else_s_folder_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "theirs.pt").write_text("weights")
    for anew in (True, False):
        with pytest.raises(FolderError, match="holds checkpoints and no run_id"):
            refuse_foreign(tmp_path, DIGEST, anew=anew)
    clear(tmp_path)
    assert (tmp_path / "checkpoints" / "theirs.pt").exists()
    assert not (tmp_path / LOCK_FILE).exists()


def test_a_dangling_link_of_a_run_s_name_is_foreign_too(tmp_path):
    (tmp_path / "checkpoints").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FolderError, match="holds checkpoints and no run_id"):
        refuse_foreign(tmp_path, DIGEST, anew=True)


def test_a_file_in_a_folder_s_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(FolderError, match="is a file, and a run needs a folder"):
        refuse_foreign(tmp_path / "run", DIGEST, anew=False)


def test_another_config_s_unfinished_run_is_removed_only_when_asked(tmp_path):
    new_run_id(tmp_path, "f" * 32)
    with pytest.raises(FolderError, match=r"another config \(digest ffffffff"):
        refuse_foreign(tmp_path, DIGEST, anew=False)
    refuse_foreign(tmp_path, DIGEST, anew=True)


def test_a_new_start_removes_the_run_and_nothing_else(tmp_path):
    new_run_id(tmp_path, DIGEST)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "weights").write_text("")
    for name in ("checkpoints/step-000002", "checkpoints/notes", "trec"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "policy").symlink_to(outside)
    for name in ("metrics.jsonl", "paper.tex", "test_touches.jsonl"):
        (tmp_path / name).write_text("")
    clear(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == [
        "checkpoints",
        "checkpoints/notes",
        "outside",
        "outside/weights",
        "paper.tex",
        "test_touches.jsonl",
    ]


def test_an_id_is_a_run_s_only_if_it_looks_like_one(tmp_path):
    made = new_run_id(tmp_path, DIGEST)
    assert run_id(tmp_path) == made
    assert made.startswith("01234567-")
    (tmp_path / "run_id").write_text("mine\n")
    assert run_id(tmp_path) is None


def test_the_config_is_written_once(tmp_path):
    write_config(tmp_path, config="seed: 0\n", words=("seed=0", "a='b: c'"))
    write_config(tmp_path, config="seed: 1\n", words=())
    assert (tmp_path / ".hydra" / "config.yaml").read_text() == "seed: 0\n"
    assert (tmp_path / ".hydra" / "overrides.yaml").read_text() == "- seed=0\n- 'a=''b: c'''\n"
