"""Wheels are read for what has moved, file by file, and nothing of them is run."""

import sys
from zipfile import ZipFile

import pytest

from rlcredit.integrations.contract import CONTRACTS, VERL, Contract, check_files
from scripts.contracts import main, moved

ESTIMATE = Contract(
    package="toy",
    versions="1",
    file="toy/core.py",
    name="",
    parameters={"estimate": ("rewards",)},
    lines={"estimate": ("return rewards",)},
)
SOURCE = "raise SystemExit('run')\ndef estimate(rewards):\n    return rewards\n"


def test_a_file_of_a_wheel_is_read_and_a_missing_one_named(tmp_path):
    path = tmp_path / "toy-1-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        archive.writestr("toy/core.py", SOURCE)
    assert moved(ESTIMATE, path) == []
    assert moved(VERL[0], path) == [f"there is no {VERL[0].file}"]


def test_an_installed_file_is_read_and_what_moved_in_any_is_named(tmp_path):
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "core.py").write_text(SOURCE)
    check_files([ESTIMATE], tmp_path, "1.2")
    (tmp_path / "toy" / "core.py").write_text(SOURCE.replace("(rewards)", "(rewards, mask)"))
    with pytest.raises(ImportError, match=r"toy 1\.2 is not the toy .*not \['rewards'\]; there is"):
        check_files([ESTIMATE, VERL[0]], tmp_path, "1.2")


def test_a_package_without_a_contract_is_refused_before_anything_is_fetched(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["contracts", "nemo-rl==1.0"])
    with pytest.raises(
        SystemExit, match=r"no contract with nemo-rl; .* trl, skyrl, verl, verifiers"
    ):
        main()
    assert {contract.package for contract in CONTRACTS} == {"trl", "skyrl", "verl", "verifiers"}
