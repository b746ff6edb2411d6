"""The records in the repository: what they are, and that every declared job finds its own."""

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf, open_dict

from rlcredit.commands.components import COMPONENTS, component_class, components
from rlcredit.commands.conf import composing, conf_folder
from rlcredit.commands.digests import METHOD
from rlcredit.commands.schema import register, stored_schema
from rlcredit.commands.table_jobs import Planner, run_missing
from rlcredit.commands.tables import declared, table_names
from rlcredit.evaluation.evaluate import families_of
from rlcredit.identity import TARGET, digest, public_name, without_numerics
from rlcredit.policy.tiny import Tiny
from rlcredit.tables.pages import html
from rlcredit.tables.proof import explain_cell, proof, table_folder, write_table
from rlcredit.tables.render import latex, markdown, values_csv
from rlcredit.tasks import ESCI, HM

ROOT = Path(__file__).parents[2]
JOBS = ROOT / "outputs" / "reference" / "jobs"


@pytest.fixture(scope="module")
def index():
    return pq.read_table(JOBS / "index-0000.parquet").to_pylist()


def test_the_530_runs_were_carried_over_one_to_one(index):
    assert len(index) == 530
    assert len({row["digest"] for row in index}) == 530
    assert len({row["digest_before"] for row in index}) == 530
    for row in index:
        identity = json.loads(row["identity"])
        assert row["digest"] == digest(identity)
        assert row["kin"] == digest(without_numerics(identity))
        assert "rlcredit." not in row["identity"]  # names, not places


def test_the_records_are_few_and_small():
    files = list(JOBS.rglob("*"))
    assert len(files) < 12
    assert sum(path.stat().st_size for path in files) < 15e6


def test_the_families_of_kept_queries_are_those_of_the_generated_intents(index):
    """Which of the 160 queries reword one intent follows from the data that the runs name."""
    known = {
        row["data_digest"]: row for row in pq.read_table(JOBS / "families-0000.parquet").to_pylist()
    }
    generated = {}
    for row in index:
        dataset = json.loads(row["identity"])["dataset"]
        if dataset.get("source") != "generated":
            assert row["data_digest"] not in known
            continue
        key = dataset["class"], dataset.get("ambiguous_share", 0.0)
        if key not in generated:
            share = {"ambiguous_share": key[1]} if key[1] else {}
            generated[key] = {"ESCI": ESCI, "HM": HM}[key[0]](**share).load().test
        families = known[row["data_digest"]]
        assert families["prompt_ids"] == [prompt.prompt_id for prompt in generated[key]]
        assert families["prompt_ids"] == row["prompt_ids"]
        assert tuple(families["families"]) == families_of(generated[key])
        assert len(set(families["families"])) == 32


@pytest.fixture
def without_defaults():
    """Schemas in which every setting that enters a digest is mandatory."""
    register()
    for group, package in COMPONENTS.items():
        for cls in components(package):
            if group not in ("table", "tracker"):
                _open(stored_schema(f"schema/{group}/{public_name(cls).lower()}"))
    yield
    stored_schema.cache_clear()


def _open(node):
    cls = component_class(node[TARGET])
    for f in (f for f in dataclasses.fields(cls) if f.init and not f.metadata.get("aside")):
        if OmegaConf.is_dict(node._get_node(f.name)) and TARGET in (node[f.name] or ()):
            _open(node[f.name])
        else:
            with open_dict(node):
                node[f.name] = "???"


def test_every_declared_job_finds_its_record_whatever_todays_defaults_are(
    index, without_defaults, tmp_path
):
    known = {row["digest"] for row in index}
    kin = {row["kin"] for row in index}
    words = {tuple(row["overrides"]) for row in index}
    planned = 0
    planner = Planner(outputs=tmp_path, conf="kept")
    for name in table_names():
        with composing(conf_folder()):
            table = declared(name).at("sample")
        if table.conf != planner.conf:
            assert name in ("table_pretrained", "table_rates")  # younger than what is kept
            continue
        for job in planner.jobs(table, "sample", table.data):
            planned += 1
            if job.digest:
                raised = job.numerics.keys() - {"policy"}
                assert (job.kin in kin) if raised else (job.digest in known), job.command
            else:  # of published files, which are not here
                assert job.overrides in words
    for key, cfg in planner.composed.items():
        chosen = OmegaConf.masked_copy(cfg, [*METHOD, "retriever", "dataset"])
        assert OmegaConf.missing_keys(chosen) == set(), key
    assert planned == 730


def test_a_record_of_other_numerics_is_found_and_marked_in_every_rendering(
    filled, plan, table, outputs, make_run, keep
):
    identity = {"policy": {"class": "Tiny", "numerics": 2}, "seed": 0}
    now = identity | {"policy": {"class": "Tiny", "numerics": 3}}
    folder = next(job.folder for job in plan if job.row == "ospo" and job.seed == 0)
    make_run(folder, digest=digest(identity), level=0.7, identity=identity)
    position = next(n for n, job in enumerate(plan) if job.row == "ospo" and job.seed == 0)
    plan[position] = dataclasses.replace(
        plan[position],
        digest=digest(now),
        kin=digest(without_numerics(now)),
        numerics={"policy": 3},
    )
    grid = filled()
    assert list(grid.cells["esci", "ospo", "ndcg"].per_seed) == list(range(8))
    assert not grid.cells["esci", "ospo", "ndcg"].gaps
    said = "policy (2 then, 3 now)"
    for text in (markdown(grid), latex(grid), values_csv(grid), html(grid, [])):
        assert said in text
    assert "OSPO <script> ‡" in markdown(grid).replace("\\", "").replace("&lt;", "<").replace(
        "&gt;", ">"
    )
    assert "GRPO ‡" not in markdown(grid)
    assert [run.get("numerics") for run in proof(grid)["rows"]["table_x/esci/ospo"]["runs"]] == [
        said,
        *[None] * 7,
    ]
    write_table(grid, table_folder(outputs, "table_x", "smoke"))
    assert f"    numerics: {said}" in explain_cell(outputs, "table_x/esci/ospo")


def test_a_job_of_older_numerics_runs_again_only_when_asked(
    plan, outputs, make_run, monkeypatch, capsys
):
    identity = {"policy": {"class": "Tiny", "numerics": 2}, "seed": 0}
    now = identity | {"policy": {"class": "Tiny", "numerics": 3}}
    job = next(job for job in plan if job.row == "ospo" and job.seed == 0)
    make_run(job.folder, digest=digest(identity), level=0.7, identity=identity)
    kin = digest(without_numerics(now))
    job = dataclasses.replace(job, digest=digest(now), kin=kin, numerics={"policy": 3})
    monkeypatch.setattr("rlcredit.commands.table_jobs._one_by_one", lambda jobs, *_: iter(()))
    for renew, said in ((False, "0 jobs to run, 1 finished"), (True, "1 jobs to run, 0 finished")):
        run_missing([job], Planner(outputs=outputs), kept=None, renew=renew)
        assert said in capsys.readouterr().out


def test_a_record_of_another_setting_is_no_kin(filled, plan, make_run):
    identity = {"policy": {"class": "Tiny", "numerics": 2, "hidden_size": 64}, "seed": 0}
    now = {"policy": {"class": "Tiny", "numerics": 3, "hidden_size": 96}, "seed": 0}
    position = next(n for n, job in enumerate(plan) if job.row == "ospo" and job.seed == 0)
    make_run(plan[position].folder, digest=digest(identity), level=0.7, identity=identity)
    plan[position] = dataclasses.replace(
        plan[position], digest=digest(now), kin=digest(without_numerics(now))
    )
    assert 0 not in filled().cells["esci", "ospo", "ndcg"].per_seed


def test_a_job_of_today_knows_its_numerics(tmp_path):
    with composing(conf_folder()):
        table = declared("search")
    job = next(Planner(outputs=tmp_path, conf="kept").jobs(table, "smoke", ["esci"]))
    assert job.numerics == {"policy": Tiny.numerics}
    assert job.command.startswith("python train.py --config-path conf/kept ")
