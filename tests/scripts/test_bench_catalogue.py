import json
from argparse import Namespace

import pytest

from rlcredit.tasks import ESCI
from scripts.bench_bm25 import ENGINES
from scripts.bench_catalogue import keep, measured


def chosen(tmp_path):
    return Namespace(threads=1, queries=70, cache=tmp_path)


@pytest.mark.parametrize("name", ["bm25", "dense"])
def test_exact_search_is_found_equal_to_scoring_every_document(name, tmp_path):
    row = measured(2000, name, chosen(tmp_path))
    assert (row.exact, row.documents, row.queries) == (1.0, 2000, 70)
    assert row.peak_gb >= row.build_gb >= row.load_gb > 0.1


def test_approximate_search_is_measured_by_what_it_finds(tmp_path):
    assert 0.5 < measured(2000, "ivf", chosen(tmp_path)).exact <= 1


def test_a_line_takes_the_place_of_the_one_before_it(tmp_path, capsys):
    row = vars(measured(2000, "bm25", chosen(tmp_path)))
    keep(tmp_path, row)
    keep(tmp_path, row | {"retriever": "dense"})
    keep(tmp_path, row | {"build_s": 7.0})
    rows = json.loads((tmp_path / "catalogue.json").read_text())["rows"]
    assert [(one["retriever"], one["build_s"] == 7) for one in rows] == [
        ("bm25", True),
        ("dense", False),
    ]
    assert (tmp_path / "catalogue.md").read_text().count("| 2,000 |") == 2
    assert "| 2,000 | bm25 | 1 | 7 (" in capsys.readouterr().out


def test_every_engine_finds_a_document_by_its_own_text(tmp_path):
    """What is compared is a search: of a hundred documents, a text's own is the first."""
    documents = ESCI(size=2000, cache=str(tmp_path)).load().documents
    asked = (3, 1999)
    for name, engine in ENGINES.items():
        found = engine(documents)([documents.texts[number] for number in asked])
        for number, rows in zip(asked, found, strict=True):
            assert documents.ids[number] == rows[0], name
            assert len(set(rows)) == len(rows) == 100, name
