"""The command ``rlcredit``: its words, its answers, and whose files it reads."""

import ast
import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import rlcredit
from rlcredit.__main__ import COMMANDS, main
from rlcredit.commands.conf import conf_folder
from rlcredit.commands.run_main import _with_absolute_conf
from tests.forked import command

ROOT = Path(__file__).parents[2]
ARGPARSE = {"tables", "explain"}
"""Commands without a config."""


def answer(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["rlcredit", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_every_command_has_a_module_with_a_main_and_a_config():
    folder = ROOT / "rlcredit" / "commands"
    found = {
        path.stem.replace("_", "-")
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == "main"
    }
    assert found == set(COMMANDS)
    roots = {path.stem.replace("_", "-") for path in (ROOT / "conf").glob("*.yaml")}
    assert roots - {"command"} == set(COMMANDS) - ARGPARSE  # what the roots of runs have in common


def test_help_names_every_command(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rlcredit"])
    main()
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


def test_the_version_is_that_of_the_package(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["rlcredit", "--version"])
    main()
    assert capsys.readouterr().out == f"rlcredit {rlcredit.__version__}\n"


def test_a_mistyped_command_is_answered_with_the_nearest(monkeypatch):
    said = answer(monkeypatch, "trian")
    assert said.startswith("rlcredit has no command 'trian'; did you mean 'train'?\n")


def test_a_mistake_in_the_words_is_one_sentence_with_the_nearest_name(monkeypatch):
    said = answer(monkeypatch, "train", "estimator=opso")
    assert "did you mean 'ospo'?" in said
    assert "Traceback" not in said


def test_a_run_folder_that_is_none_is_named_by_every_command_that_reads_one(monkeypatch, tmp_path):
    for name, key in (("evaluate", "run"), ("transfer", "runs"), ("report", "run")):
        assert str(tmp_path) in answer(monkeypatch, name, f"{key}={tmp_path}")
    (tmp_path / "failed_batch").mkdir()
    assert str(tmp_path) in answer(monkeypatch, "replay", f"batch={tmp_path / 'failed_batch'}")


def test_without_the_extra_the_answer_is_one_sentence_that_says_how_to_get_it():
    script = (
        "import sys; sys.modules['hydra'] = None; sys.argv = ['rlcredit', 'train'];"
        "from rlcredit.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr == (
        "rlcredit train needs hydra, which is not installed; "
        "install it by: pip install 'rlcredit[train]'\n"
    )


def test_a_second_clone_reads_its_own_conf_and_code(tmp_path):
    """In the environment of the first, which is installed there, and from another folder."""
    clone = tmp_path / "clone"
    for name in ("rlcredit", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "train.py", clone)
    edit(clone / "conf" / "size" / "smoke.yaml", "steps: 6", "steps: 7")
    edit(clone / "rlcredit" / "commands" / "schema.py", '"outputs/cache"', '"of/the/clone"')
    ours = ("rlcredit", "hydra_plugins", "hydra")
    words = ("size=smoke", "--cfg", "job")
    done = command(clone / "train.py", *words, folder=tmp_path, forget=ours)
    assert done.status == 0, done.said
    assert "\n  steps: 7\n" in done.said
    assert "\ncache: of/the/clone\n" in done.said


def edit(path, before, after):
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def test_the_conf_of_a_wheel_is_taken_before_what_lies_beside_it(tmp_path, monkeypatch):
    for place in (tmp_path / "conf", tmp_path / "rlcredit" / "conf"):
        place.mkdir(parents=True)
        (place / "train.yaml").touch()
    monkeypatch.setattr(rlcredit, "__file__", str(tmp_path / "rlcredit" / "__init__.py"))
    assert conf_folder() == tmp_path / "rlcredit" / "conf"
    (tmp_path / "rlcredit" / "conf" / "train.yaml").unlink()
    assert conf_folder() == tmp_path / "conf"
    (tmp_path / "conf" / "train.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"holds train\.yaml; install rlcredit again"):
        conf_folder()


def test_a_relative_folder_of_configs_is_of_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path / "kept")
    for words in (["--config-path", "kept"], ["-cp", "kept"]):
        assert [*_with_absolute_conf(["train", *words, "seed=1"])] == [
            "train",
            words[0],
            here,
            "seed=1",
        ]
    assert [*_with_absolute_conf(["train", "--config-path=kept"])] == [
        "train",
        f"--config-path={here}",
    ]
    assert [*_with_absolute_conf(["train", "cache=kept"])] == ["train", "cache=kept"]


def long_name(folder):
    return folder / ("é" * 150), r"é is too long: the longest name in it has 300 bytes .* takes 255"


def long_path(folder):
    return folder.joinpath(*["x" * 200] * 25), r"is too long: .* the whole path 5\d\d\d, .* 4096 at"


def a_file(folder):
    (folder / "file").touch()
    return folder / "file", r"file cannot be used \(File exists\); a file stands where a folder is"


def below_a_file(folder):
    (folder / "file").touch()
    return folder / "file" / "a", r"file/a cannot be used \(Not a directory\); a file stands where"


@pytest.mark.parametrize("place", [long_name, long_path, a_file, below_a_file])
def test_a_folder_that_cannot_be_is_refused_in_a_sentence(monkeypatch, tmp_path, place):
    folder, sentence = place(tmp_path)
    said = answer(monkeypatch, "train", "tracker=jsonl", f'hydra.run.dir="{folder}"')
    assert re.search(sentence, said), said


def test_a_folder_that_nobody_may_write_is_refused_in_a_sentence(monkeypatch, tmp_path):
    """Where root runs the tests, permissions bind nobody: the call refuses instead."""
    mkdir = Path.mkdir

    def refused(path, *args, **kwargs):
        if path.name == "run":
            raise PermissionError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refused)
    said = answer(monkeypatch, "train", "tracker=jsonl", f"hydra.run.dir={tmp_path / 'run'}")
    assert re.search(r"run cannot be used \(Read-only file system\); let this user write", said)


@pytest.mark.parametrize("command", ["evaluate", "transfer", "report"])
def test_a_name_that_is_too_long_is_refused_by_every_command(monkeypatch, command):
    key = "runs" if command == "transfer" else "run"
    said = answer(monkeypatch, command, f"{key}={'x' * 300}")
    assert "the longest name in it has 300 bytes" in said


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {"train"}))
def test_a_command_of_one_process_is_refused_where_several_were_started(monkeypatch, command):
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "3")
    words = ["a/b/c"] if command == "explain" else []
    said = answer(monkeypatch, command, *words)
    assert said.startswith("3 processes were started together")
    assert f"rlcredit {command} is the work of one" in said
