"""Run folders as a run leaves them, with chosen scores, and a table that asks for them."""

import dataclasses
import json

import numpy as np
import pytest
from omegaconf import OmegaConf

from rlcredit.commands.digests import evaluation_digest
from rlcredit.commands.table_choice import finished_runs, kept_folder
from rlcredit.commands.tables import fill
from rlcredit.evaluation.evaluate import Cell, Evaluation, Source
from rlcredit.evaluation.on_disk import save_evaluation
from rlcredit.evaluation.stats import Interval
from rlcredit.run.folder import Change, RunSummary, Status
from rlcredit.tables.declare import Claim, Data, Logged, Phase, Reduce, Row, Score, Size, Table
from rlcredit.tables.grid import Grid
from rlcredit.tables.jobs import PlannedJob
from rlcredit.tables.kept import KeptRecords
from rlcredit.tables.records import run_folders
from rlcredit.trainer.settings import EvaluationSettings

NUM_QUERIES = 12
SETTINGS = EvaluationSettings(retrievers=["bm25"])


def config_of(settings):
    """What of a run's config says how it is scored."""
    target = {"_target_": "rlcredit.EvaluationSettings"}
    return OmegaConf.create({"seed": 0, "evaluation": target | dataclasses.asdict(settings)})


def evaluation(phase, values):
    scores = {
        Cell("bm25", "nDCG@10", source): tuple(values)
        for source in (Source.sampled, Source.greedy, Source.query)
    }
    return Evaluation(
        split="test",
        phase=phase,
        prompt_ids=tuple(f"q{i}" for i in range(len(values))),
        scores=scores,
        responses={Source.sampled: (), Source.greedy: ()},
        credit=None,
        examples=(),
        families=tuple(i // 2 for i in range(len(values))),
    )


@pytest.fixture
def make_run():
    """Writes a finished run; its scores after training are about ``level``."""

    def make(
        folder,
        *,
        digest,
        level=0.5,
        seed=0,
        revision="abc",
        queries=NUM_QUERIES,
        settings=SETTINGS,
        identity=None,
    ):
        evaluated = config_of(settings)
        rng = np.random.default_rng([seed, round(1000 * level)])
        before = evaluation("before", np.full(queries, 0.25))
        after = evaluation("after", level + 0.1 * (rng.random(queries) - 0.5))
        for each in (before, after):
            save_evaluation(folder, each, digest=f"{digest}-{evaluation_digest(evaluated)}")
        lines = [{"step": s, "reward/evaluations": 80.0, "curve": 0.1 * s} for s in range(3)]
        for line in lines[1:]:
            line["time/step_cpu_s"] = 1.5
        (folder / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        hydra = folder / ".hydra"
        hydra.mkdir(exist_ok=True)
        (hydra / "config.yaml").write_text(OmegaConf.to_yaml(evaluated))
        (hydra / "overrides.yaml").write_text("- seed=0\n")
        score = after.values(Cell("bm25", "nDCG@10", Source.sampled)).mean()
        mean = Interval(mean=float(score), low=None, high=None)
        summary = RunSummary(
            name="esci/ospo",
            status=Status.finished,
            digest=digest,
            data="generated",
            data_digest="d" * 32,
            steps=2,
            wall_time_s=1.0,
            headline="bm25/ndcg@10_sampled",
            measures={"bm25/ndcg@10_sampled": Change(before=mean, after=mean, difference=mean)},
            test_touches=2,
            code_revision=revision,
            versions={"python": "3"},
            identity=identity or {"of": digest},
        )
        summary.write(folder)
        return folder

    return make


@pytest.fixture
def table():
    return Table(
        question="Is <b>more</b> better?",
        primary="ndcg",
        steps="2 steps",
        decoding="sampled",
        tuning="none",
        control="grpo",
        curve="curve",
        data={"esci": Data(label="ESCI & co", overrides=["dataset=esci"])},
        rows={
            "query": Row(label="raw query", overrides=[], phase=Phase.before, source=Source.query),
            "grpo": Row(label="GRPO", overrides=["estimator=grpo"]),
            "ospo": Row(label="OSPO <script>", overrides=["estimator=ospo"]),
        },
        scores={"ndcg": Score(label="nDCG@10", measure="ndcg@10")},
        logged={
            "area": Logged(label="area", metric="curve", reduce=Reduce.area),
            "evaluations": Logged(
                label="evaluations", metric="reward/evaluations", reduce=Reduce.total, digits=0
            ),
        },
        sizes={"smoke": Size(label="not evidence", overrides=[], seeds=list(range(8)))},
        claims={
            "better": Claim(
                text="more is better",
                source="a paper",
                treatment="ospo",
                control="grpo",
                data="esci",
                column="ndcg",
            ),
            "open": Claim(text="something else", source="a paper", why="no task for it"),
        },
    )


@pytest.fixture
def plan(table, tmp_path):
    """The jobs of the table; ``grpo`` serves the raw query too."""
    return [
        PlannedJob(
            row=row,
            data="esci",
            seed=seed,
            settings=(f"estimator={name}",),
            overrides=(f"estimator={name}", f"seed={seed}"),
            digest=f"{name}{seed}",
            folder=tmp_path / "esci" / name / f"seed{seed}",
            evaluation=SETTINGS,
            reads_validation=False,
        )
        for seed in table.sizes["smoke"].seeds
        for row, name in (("query", "grpo"), ("grpo", "grpo"), ("ospo", "ospo"))
    ]


@pytest.fixture
def outputs(plan, make_run, tmp_path):
    """Every job finished; OSPO's scores are higher by .2."""
    for job in plan:
        if job.row != "query":
            level = 0.5 if job.row == "grpo" else 0.7
            make_run(job.folder, digest=job.digest, level=level, seed=job.seed)
    return tmp_path


@pytest.fixture
def keep(outputs):
    """Keeps the record of run folders, as a sitting does at its end."""

    def make(*folders):
        kept = KeptRecords(folder=kept_folder(outputs))
        found = [run for folder in folders for run in run_folders(folder)[0]]
        kept.append(found)
        return kept

    return make


@pytest.fixture
def filled(table, plan, outputs):
    def make() -> Grid:
        return fill("table_x", table, "smoke", plan, finished_runs(outputs))

    return make
