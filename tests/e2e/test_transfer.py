"""Finished runs, scored by every retriever from what they stored."""

import json
import shutil
from dataclasses import replace

import ir_measures
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rlcredit.commands.transfer import _finished, transfer_runs
from rlcredit.report.transfer_scores import transfer
from rlcredit.run.folder import RunSummary, count_touches
from tests.e2e.running import ROOT, run
from tests.unsealed import unsealed

ORACLES = {
    "nDCG@10": ir_measures.nDCG(gains={3: 100, 2: 10, 1: 1}) @ 10,
    "nDCG@100": ir_measures.nDCG(gains={3: 100, 2: 10, 1: 1}) @ 100,
    "RR": ir_measures.RR(rel=3),
    "R@10": ir_measures.R(rel=3) @ 10,
    "R@50": ir_measures.R(rel=3) @ 50,
    "R@100": ir_measures.R(rel=3) @ 100,
    "AP": ir_measures.AP(rel=3),
}
FEW = ("trainer.steps=2", "evaluation.every=0", "evaluation.max_prompts=5", "evaluation.samples=2")


def made(runs, out, cache, retrievers="[lsa,bm25]"):
    given = [f"runs={runs}", f"out={out}", f"cache={cache}", f"retrievers={retrievers}"]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return transfer_runs(compose("transfer", overrides=given))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache):
    folder = tmp_path_factory.mktemp("trained")
    for name in ("bm25", "tfidf"):
        more = (f"cache={cache}", f"retriever={name}")
        run(folder / name, *FEW, *more)
    return folder


@pytest.fixture(scope="module")
def matrix(runs, cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("matrix")
    made(runs, out, cache)
    return out


def cells(matrix):
    return json.loads((matrix / "matrix.json").read_text())["cells"]


def test_every_run_is_scored_by_every_retriever_and_the_seen_one_is_marked(matrix, runs):
    found = cells(matrix)
    assert {c["tested_on"] for c in found} == {"tfidf", "lsa", "bm25", "unseen, mean"}
    assert {c["measure"] for c in found} == set(ORACLES)
    marked = {(c["trained_on"], c["tested_on"]) for c in found if c["in_distribution"]}
    assert marked == {("bm25", "bm25"), ("tfidf", "tfidf")}
    assert {c["method"] for c in found} == {"grpo", "warm start", "raw query", "RM3", "oracle"}
    page = (matrix / "matrix.md").read_text()
    assert "data: generated" in page
    assert page.count("| bm25 (grpo) | sampled |") == len(ORACLES) + 1
    assert count_touches(runs / "bm25") >= 3


def test_in_distribution_scores_and_gains_are_those_of_the_run(matrix, runs):
    for name in ("bm25", "tfidf"):
        change = RunSummary.read(runs / name).measures[f"{name}/ndcg@10_sampled"]
        (found,) = (
            c
            for c in cells(matrix)
            if c["trained_on"] == c["tested_on"] == name
            and (c["measure"], c["source"]) == ("nDCG@10", "sampled")
        )
        assert found["score"]["mean"] == pytest.approx(change.after.mean, abs=1e-9)
        assert found["gain"]["mean"] == pytest.approx(change.difference.mean, abs=1e-9)


def test_figures_are_those_of_ir_measures_on_the_files(matrix):
    qrels = list(ir_measures.read_trec_qrels(str(matrix / "trec" / "test.qrels")))
    checked = 0
    for cell in cells(matrix):
        if cell["tested_on"] == "unseen, mean":
            continue
        if cell["method"] == "warm start":
            folder = "warm-start-seed0-0"
        else:
            folder = cell["runs"][0] if cell["runs"] else "baselines"
        of_source = (matrix / "trec" / folder).glob(f"{cell['tested_on']}.{cell['source']}*.run.gz")
        values = [
            ir_measures.calc_aggregate(
                [ORACLES[cell["measure"]]], qrels, list(ir_measures.read_trec_run(str(path)))
            )[ORACLES[cell["measure"]]]
            for path in of_source
        ]
        assert len(values) == (2 if cell["source"] == "sampled" else 1)
        assert cell["score"]["mean"] == pytest.approx(sum(values) / len(values), abs=1e-6)
        checked += 1
    assert checked == len(ORACLES) * 3 * (2 * 2 + 2 + 3)  # two runs, warm start, three baselines


def test_made_again_it_is_the_same(matrix, runs, cache, tmp_path):
    made(f"[{runs}/tfidf,{runs}/bm25]", tmp_path, cache)
    for path in (p for p in matrix.rglob("*") if p.is_file()):
        assert (tmp_path / path.relative_to(matrix)).read_bytes() == path.read_bytes(), path


def test_a_run_of_an_older_version_takes_part(runs, cache, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(runs / "bm25", old)
    config = OmegaConf.load(old / ".hydra/config.yaml")
    del config.trainer["compute_dtype"]
    OmegaConf.save(config, old / ".hydra/config.yaml")
    summary = unsealed(old / "summary.json") | {"record": {}}  # seals are younger
    (old / "summary.json").write_text(json.dumps(summary))
    assert _finished(old, ()).settings == _finished(runs / "bm25", ()).settings


@pytest.fixture
def finished(runs, cache):
    return [_finished(runs / name, ()) for name in ("bm25", "tfidf")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"summary": "data"}, "have different data"),
        ({"after": "prompts"}, "have different test prompts"),
        ({"retriever_name": "bm25"}, "have different settings of retriever bm25"),
        ({"retriever_name": "bm25", "retriever": "same"}, "one method with one seed"),
    ],
)
def test_runs_that_cannot_share_a_matrix_are_named(finished, change, said, tmp_path, cache):
    one, other = finished
    values = {
        "data": replace(other.summary, data_digest="0"),
        "prompts": replace(other.after, prompt_ids=("q",)),
        "same": one.retriever,
        "bm25": "bm25",
    }
    other = replace(other, **{name: values[value] for name, value in change.items()})
    with pytest.raises(ValueError, match=said) as caught:
        transfer([one, other], retrievers={}, out=tmp_path, cache=cache)
    assert str(one.folder) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_changed_data_and_folders_without_a_run_are_refused(finished, tmp_path, cache):
    changed = replace(finished[0], dataset=replace(finished[0].dataset, seed=1))
    with pytest.raises(ValueError, match=r"data are no longer those of .*bm25"):
        transfer([changed], retrievers={}, out=tmp_path, cache=cache)
    with pytest.raises(ValueError, match=r"no finished run lies at or below"):
        made(tmp_path, tmp_path / "out", cache)
