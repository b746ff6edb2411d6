"""What lies in the wheel, and that its entry point is the command."""

import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from zipfile import ZipFile

import pytest

import rlcredit
from rlcredit.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that nothing is left in the checkout, and by what is installed."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("rlcredit", "rlcredit_esci", "rlcredit_hm", "hydra_plugins", "conf"):
        (source / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name == f"rlcredit-{rlcredit.__version__}-py3-none-any.whl"
    with ZipFile(path) as archive:
        yield archive


def of_checkout(folder, suffixes):
    paths = (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)
    return {str(path.relative_to(ROOT)) for path in paths}


def test_the_wheel_holds_code_plugins_conf_templates_and_the_mark_of_types(wheel):
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    conf = {f"rlcredit/{name}" for name in of_checkout("conf", {".yaml"})}
    assert len(conf) > 90
    code = of_checkout("rlcredit", {".py", ".html", ".css", ".js", ".typed"})
    words = of_checkout("rlcredit/tasks", {".yaml"})
    assert words
    for folder in ("hydra_plugins", "rlcredit_esci", "rlcredit_hm"):
        code |= of_checkout(folder, {".py"})
    assert found == conf | code | words
    assert "hydra_plugins/__init__.py" not in found


def test_the_command_is_the_entry_point(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("entry_points.txt"))
    entries = ConfigParser()
    entries.read_string(wheel.read(name).decode())
    assert dict(entries["console_scripts"]) == {"rlcredit": f"{main.__module__}:main"}
    assert dict(entries["verl.plugins"]) == {"rlcredit": "rlcredit.integrations.verl_plugin"}


def test_the_metadata_name_the_base_and_the_extras(wheel):
    (name,) = (n for n in wheel.namelist() if n.endswith("METADATA"))
    lines = wheel.read(name).decode().splitlines()
    assert "License-Expression: Apache-2.0" in lines
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if "Provides-Extra" in line}
    assert extras == {
        *("train", "vllm", "slurm", "trl", "verl", "verifiers", "docs", "dev"),
        *("tensorboard", "trackio", "optuna"),
    }
    base = [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert not any("transformers" in line or "hydra" in line for line in base)
