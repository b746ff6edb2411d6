"""The mirror: offline without a key, never in the way, and never HTML written by a policy."""

import json
import os
import shlex
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
from wandb.proto import wandb_internal_pb2
from wandb.sdk.data_types._private import MEDIA_TMP

from rlcredit.tracking import WandB
from rlcredit.tracking.base import CreditedText, RunInfo, RunTracker, Tracker
from rlcredit.tracking.mirror import Mirror
from rlcredit.tracking.wandb import page_html
from tests.tracking.wandb_server import Server


@pytest.fixture(autouse=True)
def _bare_machine(tmp_path, monkeypatch):
    """No key, no netrc, no settings of the person who runs the tests; no service left behind."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    yield
    wandb.teardown()


def run_in(folder) -> RunInfo:
    return RunInfo(
        folder=folder,
        run_id="abc123",
        group="sweep",
        name="esci/ospo",
        config={"seed": 3, "estimator": {"name": "ospo"}},
        tags=("data: generated",),
    )


def mirror(tracker, folder, said) -> Mirror:
    return Mirror(tracker, run_in(folder), last_step=None, say=said.append, warn=said.append)


def in_process(folder, script):
    """What becomes of a process of its own that opens a run and then does this."""
    opening = (
        "from pathlib import Path; from rlcredit.tracking import WandB\n"
        "from rlcredit.tracking.base import RunInfo\n"
        "from rlcredit.tracking.mirror import Mirror\n"
        "from tests.tracking.wandb_server import kill_service\n"
        f"info = RunInfo(folder=Path({str(folder)!r}), run_id='abc123', group='g', name='n', "
        "config={})\n"
        "run = Mirror(WandB(), info, last_step=None, say=print, warn=print)\n"
    )
    command = [sys.executable, "-c", opening + script]
    root = Path(__file__).parents[2]
    return subprocess.run(command, timeout=60, capture_output=True, text=True, cwd=root)


def records(folder):
    """What the run wrote: W&B's file is a LevelDB log (32 KiB blocks) of protocol buffers."""
    wandb.teardown()  # waits for the service, which writes behind
    (path,) = folder.glob("wandb/offline-run-*/run-abc123.wandb")
    data, at, found, parts = path.read_bytes(), 7, [], b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        size, kind = struct.unpack_from("<HB", data, at + 4)
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a full record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def history(folder):
    rows = []
    for record in records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items})
    return rows


def test_without_a_key_the_run_is_offline_whole_and_says_the_sync_command_once(tmp_path, capfd):
    said = []
    run = WandB(project="p").start(run_in(tmp_path), last_step=None, say=said.append)
    assert isinstance(WandB(), Tracker)
    assert isinstance(run, RunTracker)
    run.log({"train/loss": 0.25, "eval/validation/bm25/ndcg@10_greedy": 0.5}, step=1)
    run.log({"train/loss": 0.125}, step=2)
    run.finish({"after": 0.75}, failed=False)
    assert len(said) == 1
    assert f"wandb sync {tmp_path / 'wandb'}" in said[0]
    assert "no key is configured" in said[0]
    assert capfd.readouterr() == ("", "")
    rows = history(tmp_path)
    assert [(row["step"], row["_step"], row["train/loss"]) for row in rows] == [
        (1, 1, 0.25),
        (2, 2, 0.125),
    ]
    assert rows[0]["eval/validation/bm25/ndcg@10_greedy"] == 0.5


def test_config_group_tags_axes_and_exit_code_are_in_the_run(tmp_path):
    run = WandB(project="p", entity="team").start(run_in(tmp_path), last_step=None, say=print)
    run.log({"a": 1.0}, step=0)
    run.finish({"after": 0.75}, failed=True)
    by_kind = {record.WhichOneof("record_type"): record for record in records(tmp_path)}
    first = by_kind["run"].run
    assert (first.run_id, first.project, first.entity) == ("abc123", "p", "team")
    assert (first.run_group, first.display_name, list(first.tags)) == (
        "sweep",
        "esci/ospo",
        ["data: generated"],
    )
    config = {item.key: json.loads(item.value_json) for item in first.config.update}
    assert config["seed"] == 3
    assert config["estimator"] == {"name": "ospo"}
    axes = [r.metric for r in records(tmp_path) if r.WhichOneof("record_type") == "metric"]
    assert ("*", "step") in [(axis.glob_name, axis.step_metric) for axis in axes]
    assert by_kind["exit"].exit.exit_code == 1
    summaries = [r.summary for r in records(tmp_path) if r.WhichOneof("record_type") == "summary"]
    assert ("after", "0.75") in [(i.key, i.value_json) for s in summaries for i in s.update]


def test_the_id_is_the_same_across_resumes(tmp_path):
    for last_step in (None, 4):
        run = WandB().start(run_in(tmp_path), last_step=last_step, say=print)
        assert run.run.id == "abc123"
        run.finish({}, failed=False)
        time.sleep(1.1)  # W&B names a folder by the second


def test_a_server_that_does_not_answer_costs_the_timeout_and_leaves_a_run_offline(
    tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    said = []
    began = time.monotonic()
    run = WandB(init_timeout_s=1.5).start(run_in(tmp_path), last_step=None, say=said.append)
    assert time.monotonic() - began < 20.0
    run.log({"train/loss": 0.25}, step=1)
    run.finish({}, failed=False)
    (sentence,) = said
    assert "offline" in sentence
    assert "did not take the run" in sentence
    assert f"wandb sync {tmp_path / 'wandb'}" in sentence
    assert [row["train/loss"] for row in history(tmp_path)] == [0.25]
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def server(monkeypatch):
    """A W&B server on this machine that takes everything, until it is told to hang."""
    with Server() as running:
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        yield running


def test_with_a_key_the_run_is_online_under_one_id_and_its_data_arrive(tmp_path, server, capfd):
    said = []
    run = WandB(project="p").start(run_in(tmp_path), last_step=None, say=said.append)
    run.log({"train/loss": 0.25}, step=1)
    run.finish({"after": 0.5}, failed=False)
    assert said == [f"W&B: {server.url}/team/p/runs/abc123"]
    assert [row["train/loss"] for row in server.history()] == [0.25]
    assert server.asked("RunResumeStatus")[0]["name"] == "abc123"
    assert server.asked("UpsertBucket")[0]["groupName"] == "sweep"
    assert capfd.readouterr() == ("", "")


def test_a_resumed_run_has_the_same_id_and_adds_to_its_curve(tmp_path, server):
    for steps, last_step in (((1, 2), None), ((3,), 2)):
        server.lines_before = len(server.history())
        run = WandB(project="p").start(run_in(tmp_path), last_step=last_step, say=print)
        for step in steps:
            run.log({"a": step / 4}, step=step)
        run.finish({}, failed=False)
        wandb.teardown()
    assert {asked["name"] for asked in server.asked("UpsertBucket")} == {"abc123"}
    assert [(row["step"], row["a"]) for row in server.history()] == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_a_server_that_hangs_costs_the_timeout_at_the_end_and_is_told_once(tmp_path, server):
    said = []
    tracker = WandB(project="p", finish_timeout_s=2.0)
    run = mirror(tracker, tmp_path, said)
    server.hanging = True
    run.log({"train/loss": 0.25}, step=1)
    began = time.monotonic()
    run.finish({}, failed=False)
    assert time.monotonic() - began < 15.0
    server.hanging = False
    assert len(said) == 2
    assert "tracker WandB takes no more data" in said[1]
    assert f"wandb sync --include-online {tmp_path / 'wandb'}" in said[1]


def test_a_mirror_that_dies_does_not_end_the_run(tmp_path):
    done = in_process(
        tmp_path,
        "run.log({'a': 1.0}, step=1); kill_service()\n"
        "for step in range(2, 200): run.log({'a': 1.0}, step=step)\n"
        "run.table('responses', ['a'], [[1]]); run.finish({}, failed=False)\n"
        "raise SystemExit(7)",
    )
    assert done.returncode == 7
    said = done.stdout.splitlines()
    assert len(said) == 2
    assert "tracker WandB takes no more data" in said[1]
    assert "The run goes on without it" in said[1]


def test_a_key_of_the_wrong_form_is_named_and_the_run_goes_on_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "short")
    said = []
    WandB().start(run_in(tmp_path), last_step=None, say=said.append).finish({}, failed=False)
    assert "the key cannot be used" in said[0]
    assert "WANDB_API_KEY" in said[0]


def test_a_process_that_never_finishes_its_run_ends_by_itself(tmp_path):
    done = in_process(tmp_path, "run.log({'a': 1.0}, step=1)\nraise SystemExit(7)")
    assert done.returncode == 7
    assert done.stderr == ""
    assert [row["a"] for row in history(tmp_path)] == [1.0]


def test_a_table_of_responses_is_text_and_its_page_by_credit_is_escaped(tmp_path):
    run = WandB().start(run_in(tmp_path), last_step=None, say=print)
    run.log({"a": 1.0}, step=5)
    text = CreditedText(pieces=(("<script>", 0.5), (", ", None), ("tent", -0.25)))
    run.table("responses", ["prompt", "response"], [["a <b>tent</b>", text]])
    run.finish({}, failed=False)
    (table,) = tmp_path.glob("wandb/offline-run-*/files/media/table/*.json")
    assert json.loads(table.read_text()) == {
        "columns": ["prompt", "response"],
        "data": [["a <b>tent</b>", "<script> (+0.500), tent (-0.250)"]],
    }
    (page,) = tmp_path.glob("wandb/offline-run-*/files/media/html/*.html")
    assert "<script" not in page.read_text()
    assert "<b>" not in page.read_text()
    assert "&lt;script&gt;</span>, <span" in page.read_text()
    (row,) = history(tmp_path)
    assert (row["_step"], row["a"]) == (5, 1.0)
    assert row["responses/_type"] == "table-file"
    assert row["responses_by_credit/_type"] == "html-file"


def test_colour_follows_sign_and_size_and_no_credit_means_no_colour():
    text = CreditedText(pieces=(("a", 0.5), ("&", None), ("b", -0.25), ("c", 0.0)))
    html = page_html(["n", "text"], [[3, text], [4, CreditedText(pieces=(("d", 0.0),))]])
    assert "<td>3</td>" in html
    assert "title='+0.5000' style='background:rgba(46,160,67,1.00)'>a<" in html
    assert "title='-0.2500' style='background:rgba(218,54,51,0.50)'>b<" in html
    assert "rgba(46,160,67,0.00)'>c<" in html
    assert "rgba(46,160,67,0.00)'>d<" in html
    assert "</span>&amp;<span" in html


@pytest.mark.parametrize("seconds", [0.0, float("inf"), float("nan")])
def test_waiting_times_must_be_positive(seconds):
    with pytest.raises(ValueError, match=rf"tracker.wandb.init_timeout_s={seconds}.*tracker=jsonl"):
        WandB(init_timeout_s=seconds)


@pytest.mark.parametrize("project", ["a/b:c", "x" * 129])
def test_a_project_that_the_server_refuses_is_refused_at_once(project):
    with pytest.raises(
        ValueError, match=rf"tracker.wandb.project={project}: .*choose another name"
    ):
        WandB(project=project)


@pytest.mark.parametrize(("name", "value"), [("mode", "bogus"), ("base_url", "foo")])
def test_a_wrong_variable_costs_the_mirror_and_a_sentence_with_the_remedy(
    tmp_path, monkeypatch, capfd, name, value
):
    wandb.teardown()  # what an earlier run has read is forgotten
    monkeypatch.setenv(f"WANDB_{name.upper()}", value)
    said = []
    run = mirror(WandB(), tmp_path, said)
    run.log({"a": 1.0}, step=1)
    run.finish({}, failed=False)
    (sentence,) = said
    assert name in sentence
    assert value in sentence
    assert "unset the variable WANDB_*" in sentence
    assert "tracker=jsonl switches it off" in sentence
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]
    assert capfd.readouterr() == ("", "")


def test_mode_disabled_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    said = []
    run = mirror(WandB(), tmp_path, said)
    run.log({"a": 1.0}, step=1)
    run.finish({}, failed=False)
    assert said == ["W&B is off (WANDB_MODE=disabled)"]
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_a_temporary_folder_that_is_cleaned_away_costs_the_mirror_alone(tmp_path):
    folder, said = tmp_path / "my runs", []
    folder.mkdir()
    run = mirror(WandB(), folder, said)
    run.log({"a": 1.0}, step=1)
    media = Path(MEDIA_TMP.name)
    away = media.rename(media.with_name(f"{media.name}-away"))
    run.table("responses", ["a"], [[CreditedText(pieces=(("x", 0.5),))]])
    away.rename(media)
    run.log({"a": 1.0}, step=2)
    run.finish({}, failed=False)
    _, warning = said
    assert "tracker WandB takes no more data: W&B refuses it ([Errno 2]" in warning
    words = warning[warning.index("wandb sync") :].rsplit(". The run", 1)[0]
    assert shlex.split(words) == ["wandb", "sync", str(folder / "wandb")]
