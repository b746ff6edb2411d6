"""Methods, data and measures have one name each, wherever a person reads them."""

import pytest

from rlcredit.commands.conf import conf_folder
from rlcredit.evaluation.cells import Cell, Source
from rlcredit.evaluation.names import (
    METHODS,
    cell_name,
    mean_name,
    measure_name,
    method_name,
    run_name,
    source_of,
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bm25/ndcg@10_sampled", "nDCG@10, sampled, BM25"),
        ("minilm/r@100_oracle", "recall@100, oracle, MiniLM"),
        ("bm25/rr_rm3", "MRR, RM3, BM25"),
        ("bm25/ndcg@10-worst-of-k_greedy", "nDCG@10, worst of k, greedy, BM25"),
        ("pass@16", "Pass@16"),
        ("pass@1_greedy", "Pass@1, greedy"),
        ("words_query", "words, raw query"),
        ("my_index/my_measure_sampled", "my measure, sampled, my_index"),
    ],
)
def test_a_measure_is_said_in_words(name, said):
    assert measure_name(name) == said


def test_a_cell_is_called_as_its_name_in_metrics_is():
    for cell in (Cell("bm25", "nDCG@10", Source.greedy), Cell("lsa", "RR", Source.query)):
        assert cell_name(cell) == measure_name(cell.name)
    assert [mean_name(m) for m in ("RR", "R@50", "AP@100", "nDCG@10")] == [
        "MRR",
        "recall@50",
        "MAP@100",
        "nDCG@10",
    ]


def test_who_wrote_the_texts_is_read_from_the_name():
    assert source_of("bm25/ndcg@10_oracle") is Source.oracle
    assert source_of("pass@4") is Source.sampled


def test_every_estimator_has_a_name_and_settings_stay_behind_it():
    assert set(METHODS) == {path.stem for path in (conf_folder() / "estimator").glob("*.yaml")}
    assert len(set(METHODS.values())) == len(METHODS)
    assert method_name("ospo trainer.steps=9") == "OSPO trainer.steps=9"
    assert method_name("my_own") == "my_own"
    assert run_name("hm/ospo") == "OSPO on H&M"
