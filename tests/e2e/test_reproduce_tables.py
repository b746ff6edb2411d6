"""A smoke table from nothing: jobs run, the table renders, a second call runs no job."""

import shutil
from dataclasses import replace

import pytest
from hydra import initialize_config_dir

from rlcredit.commands import tables as reproduce_tables
from rlcredit.commands.conf import conf_folder
from rlcredit.commands.schema import register
from rlcredit.commands.tables import declared, main, table_names
from rlcredit.tables.price import Batch, gpu_hours


@pytest.fixture
def two_rows(monkeypatch):
    """Table claims, cut down to one data set and two of its rows, for the sake of time.

    So are the policy of its jobs, their warm start, their steps and their prompts.
    """
    whole = reproduce_tables.declared

    def cut(name):
        table = whole(name)
        for key in [key for key in table.rows if key not in {"grpo", "ospo"}]:
            del table.rows[key]
        for key in [key for key in table.data if key != "esci"]:
            del table.data[key]
        table.claims.clear()
        table.sizes["smoke"].seeds[:] = [0]
        short = ("policy.warm_start.steps=20", "policy.num_layers=1", "trainer.steps=2")
        short += ("evaluation.max_prompts=4", "evaluation.samples=1", "evaluation.every=2")
        table.sizes["smoke"].overrides.extend(short)
        table.sizes["paper"].seeds[:] = [0]
        return table

    monkeypatch.setattr(reproduce_tables, "declared", cut)


def test_a_table_is_run_rendered_and_not_run_again(two_rows, tmp_path, capsys):
    arguments = ["--size", "smoke", "--tables", "claims", "--outputs", str(tmp_path)]
    assert main([*arguments, "--workers", "2"]) == 0
    assert "2 jobs to run" in capsys.readouterr().out
    folder = tmp_path / "tables/smoke/table_claims"
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert b"smoke: not evidence" in first["table.md"]
    assert b"1/1" in first["table.md"]
    assert main(arguments) == 0
    assert "0 jobs to run, 2 finished ones reused" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    (run,) = tmp_path.glob("esci/grpo/*")
    shutil.rmtree(run)
    assert main([*arguments, "--workers", "1"]) == 0
    again = (folder / "table.csv").read_text().splitlines()
    before = first["table.csv"].decode().splitlines()
    differing = {line.split(",")[0] for line in set(again) ^ set(before)}
    assert differing <= {"esci/grpo/seconds"}, "jobs side by side have the bits of one alone"


def test_a_job_that_fails_is_listed_and_the_others_run(monkeypatch, two_rows, tmp_path, capsys):
    cut = reproduce_tables.declared

    def broken(name):
        table = cut(name)
        table.rows["ospo"].overrides.append("trainer.group_size=1")
        return table

    monkeypatch.setattr(reproduce_tables, "declared", broken)
    arguments = ["--size", "smoke", "--tables", "claims", "--outputs", str(tmp_path)]
    assert main([*arguments, "--workers", "1"]) == 1
    said = capsys.readouterr().out
    assert said.count("FAILED") == 1
    assert said.count("finished (") == 1
    page = (tmp_path / "tables/smoke/table_claims/table.md").read_text()
    assert "failed: " in page
    assert "0/1" in page
    assert "1/1" in page


def test_the_papers_size_is_composed_and_priced_and_not_run(two_rows, tmp_path, capsys):
    assert main(["--size", "paper", "--tables", "claims", "--outputs", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "2 jobs composed, not run" in said
    assert "GPU hours" in said
    page = (tmp_path / "tables/paper/table_claims/table.md").read_text()
    assert "published (not ours)" in page
    assert "0/1" in page


def test_a_table_that_does_not_exist_is_answered_with_those_that_do(tmp_path):
    with pytest.raises(SystemExit, match=r"did you mean table_search\?"):
        main(["--tables", "serach", "--outputs", str(tmp_path)])


def test_gpu_hours_count_operations():
    once = Batch(
        steps=1, prompts_per_step=1, group_size=1, updates=1, prompt_tokens=0, new_tokens=989
    )
    assert gpu_hours(once, parameters=1e12 * 3600) == pytest.approx(2 / 0.05 + 8 / 0.35)
    twice = replace(once, updates=2)
    assert gpu_hours(twice, parameters=1e12 * 3600) == pytest.approx(2 / 0.05 + 2 * 8 / 0.35)
    vine = replace(once, continuations=4)  # 28 of half a response each
    assert gpu_hours(vine, parameters=1e12 * 3600) == pytest.approx(15 * 2 / 0.05 + 8 / 0.35)
    again = replace(once, rounds=3)
    assert gpu_hours(again, parameters=1e12 * 3600) == pytest.approx(4 * 2 / 0.05 + 8 / 0.35)


def test_every_declared_table_names_what_must_be_known_before_its_runs():
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        for name in table_names():
            table = declared(name)
            assert table.primary
            assert table.steps
            assert table.decoding
            assert table.tuning
            assert set(table.sizes) == {"smoke", "sample", "paper"}
            runs = 3 if name == "table_pretrained" else 10 if table.claims else 5
            assert len(table.sizes["sample"].seeds) == runs
