"""What cannot be written stops nothing: closed pipes, full disks, characters that are not there."""

import os
import sys
from io import BytesIO, TextIOWrapper

import pytest

from rlcredit.commands.errors import in_a_sentence
from rlcredit.run.console import RunConsole
from rlcredit.run.stream import best_effort
from tests.full_disk import full_disk


@pytest.fixture
def unread():
    """A pipe whose reader has gone, as ``| head`` does."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        yield stream


def ascii_only():
    return TextIOWrapper(BytesIO(), encoding="ascii")


def test_a_run_goes_on_silently_when_nobody_reads_and_its_file_has_everything(
    tmp_path, monkeypatch, unread
):
    monkeypatch.setattr(sys, "stdout", unread)
    console = RunConsole()
    console.say("said before the file is there")
    console.keep(tmp_path / "train.log")
    with console.progress(steps=2) as shown:
        for step in (1, 2):
            shown(step, {"reward/mean": 0.25})
    console.warn("low")
    unread.flush()  # as when the process ends
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert lines[0] == "said before the file is there"
    assert lines[1] == "reward: mean of the batch"
    assert [line[:8] for line in lines[2:4]] == ["step 1/2", "step 2/2"]
    assert lines[4:] == ["warning: low"]


def test_the_file_is_plain_text_beside_a_coloured_terminal_and_grows_over_sittings(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    for sitting in ("first", "sécond"):
        console = RunConsole()
        assert console.console.is_terminal
        console.keep(tmp_path / "train.log")
        console.warn(sitting)
    assert capsys.readouterr().out.count("\x1b[33m") == 2
    kept = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert kept == "warning: first\nwarning: sécond\n"


def test_a_full_disk_under_the_file_stops_nothing(tmp_path, capsys):
    console = RunConsole()
    console.keep(tmp_path / "train.log")
    with full_disk(16):
        for _ in range(3):
            console.say("0123456789")
    console.say("more")
    assert capsys.readouterr().out == "0123456789\n" * 3 + "more\n"
    assert (tmp_path / "train.log").read_text() == "0123456789\n01234more\n"


def test_a_file_that_cannot_be_opened_is_a_warning(tmp_path, capsys):
    console = RunConsole()
    console.keep(tmp_path / "missing" / "train.log")
    console.say("on")
    said = capsys.readouterr().out
    assert "train.log cannot be written (No such file or directory)" in said
    assert said.endswith("on\n")


def test_a_full_disk_under_standard_output_stops_no_command(tmp_path, monkeypatch):
    with (tmp_path / "out").open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        with in_a_sentence(), full_disk(16):
            for _ in range(3):
                print("0123456789", flush=True)
        out.flush()  # as when the process ends


def test_no_reader_stops_a_command(monkeypatch, unread):
    monkeypatch.setattr(sys, "stdout", unread)
    monkeypatch.setattr(sys, "stderr", unread)
    with in_a_sentence():
        print("a", flush=True)
        print("b", file=sys.stderr, flush=True)
    unread.flush()


def test_characters_that_the_encoding_lacks_are_replaced(monkeypatch):
    stream = ascii_only()
    monkeypatch.setattr(sys, "stdout", stream)
    RunConsole().say("café \udce9")
    with in_a_sentence():
        print("thé")
    stream.flush()
    assert stream.buffer.getvalue() == b"caf? ?\nth?\n"


def test_a_process_without_standard_output_prints_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    RunConsole().say("unheard")
    with in_a_sentence():
        print("unheard")
    assert best_effort(sys.stdout) is None


def test_a_notebook_gets_plain_lines_and_the_file_is_kept_there_too(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    console = RunConsole()
    console.say("before")
    console.keep(tmp_path / "train.log")
    console.warn("behind")
    assert (tmp_path / "train.log").read_text() == "before\nwarning: behind\n"
    assert capsys.readouterr().out == "before\nwarning: behind\n"
