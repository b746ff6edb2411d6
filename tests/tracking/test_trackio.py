"""The mirror for Trackio: the calls it makes, and with the package what Trackio keeps of them."""

import inspect
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from rlcredit.tracking import Trackio
from rlcredit.tracking.base import CreditedText, RunInfo, RunTracker, Tracker

STANDIN = Path(__file__).parent / "standin"
ROOT = Path(__file__).parents[2]


def run_in(folder) -> RunInfo:
    config = {"seed": 3, "estimator": {"name": "ospo"}}
    tags = ("data: generated",)
    return RunInfo(
        folder=folder, run_id="abc123", group="sweep", name="esci/ospo", config=config, tags=tags
    )


@pytest.fixture
def standin(monkeypatch):
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    monkeypatch.syspath_prepend(STANDIN)
    module = import_module("trackio")
    assert module.__file__ == str(STANDIN / "trackio.py")
    monkeypatch.setattr(module, "STARTED", [])
    yield module
    del sys.modules["trackio"]


def start(folder, last_step=None, said=None, **settings):
    said = [] if said is None else said
    return Trackio(**settings).start(run_in(folder), last_step=last_step, say=said.append)


def test_the_class_and_its_run_keep_the_protocols(tmp_path, standin):
    assert isinstance(Trackio(), Tracker)
    assert isinstance(start(tmp_path), RunTracker)


@pytest.mark.skipif(find_spec("trackio") is not None, reason="trackio is installed here")
def test_without_the_package_the_extra_is_named_before_a_run_begins():
    with pytest.raises(ValueError, match=r"tracker=trackio needs .*'rlcredit\[trackio\]'"):
        Trackio()


def test_a_run_is_opened_under_one_name_and_gets_every_step(tmp_path, standin, capsys):
    said = []
    run = start(tmp_path, said=said, project="mine")
    run.log({"train/loss": 0.25}, step=0)
    run.log({"train/loss": 0.125}, step=1)
    run.finish({"eval/test/x": 0.5}, failed=False)
    (opened,) = standin.STARTED
    asked = opened.settings
    assert (asked["project"], asked["name"], asked["group"]) == (
        "mine",
        "esci-ospo-abc123",
        "sweep",
    )
    assert asked["config"]["seed"] == 3
    assert asked["config"]["tags"] == ["data: generated"]
    assert (asked["resume"], asked["private"]) == ("never", True)
    assert opened.sent == [
        ({"train/loss": 0.25}, 0),
        ({"train/loss": 0.125}, 1),
        ({"eval/test/x": 0.5}, 1),
    ]
    assert opened.finished
    assert said == ["Trackio: trackio show --project mine"]
    assert capsys.readouterr().out == ""


def test_a_resumed_run_has_the_same_name_and_sends_no_step_twice(tmp_path, standin):
    killed = start(tmp_path)
    for step in range(6):
        killed.log({"a": float(step)}, step=step)
    resumed = start(tmp_path, last_step=3)
    for step in (4, 5, 6):
        resumed.log({"a": 10.0 + step}, step=step)
        resumed.table("responses", ["step"], [[step]])
    resumed.finish({}, failed=False)
    first, second = standin.STARTED
    assert first.settings["name"] == second.settings["name"]
    assert second.settings["resume"] == "allow"
    assert [step for _, step in second.sent] == [6, 6]


def test_a_table_is_text_with_credit(tmp_path, standin):
    run = start(tmp_path)
    run.log({}, step=2)
    text = CreditedText(pieces=(("tent", 0.5), (", ", None), ("red", -0.25)))
    run.table("responses", ["step", "response"], [[2, text]])
    (_, (sent, step)) = standin.STARTED[0].sent
    assert step == 2
    assert sent["responses"].data == [{"step": 2, "response": "tent (+0.500), red (-0.250)"}]


def of_package():
    """The package itself, whatever stands in for it."""
    pytest.importorskip("trackio", reason="pip install .[trackio], in an environment of its own")
    return import_module("trackio")


def recorded():
    """The stand-in, as a module of another name."""
    spec = spec_from_file_location("recorded_trackio", STANDIN / "trackio.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["init", "Run.log", "finish", "Table"])
def test_the_signatures_of_the_standin_are_the_package_s(name):
    def parameters(module):
        found = module
        for part in name.split("."):
            found = getattr(found, part)
        return [(p.name, p.kind, p.default) for p in inspect.signature(found).parameters.values()]

    assert parameters(recorded()) == parameters(of_package())


SCRIPT = """
import json, sys
from pathlib import Path
from rlcredit.tracking import Trackio
from rlcredit.tracking.base import CreditedText, RunInfo
info = RunInfo(folder=Path("."), run_id="abc", group="g", name="esci/ospo", config={"seed": 3})
for steps, last_step in ((range(6), None), ((4, 5, 6), 3)):
    run = Trackio(project="mine").start(info, last_step=last_step, say=print)
    for step in steps:
        run.log({"a": float(step)}, step=step)
    text = CreditedText(pieces=(("tent", 0.5),))
    run.table("responses", ["response"], [[text]])
    run.finish({"eval/test/x": 0.5}, failed=False)
from trackio.sqlite_storage import SQLiteStorage
print(json.dumps([[run.name for run in __import__("trackio").Api().runs("mine")],
    [[log["step"], log.get("a")] for log in SQLiteStorage.get_logs("mine", "esci-ospo-abc")]]))
"""


def test_trackio_keeps_one_run_with_every_step_once(tmp_path):
    of_package()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "kept")},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    *said, found = done.stdout.splitlines()
    assert said == ["Trackio: trackio show --project mine"] * 2
    names, logs = json.loads(found)
    assert names == ["esci-ospo-abc"]
    curve = [(step, value) for step, value in logs if value is not None]
    assert curve == [(step, float(step)) for step in range(7)]
