import json
import runpy
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlcredit.data import ESCI
from rlcredit.data.base import data_identity
from rlcredit.data.settings import Source
from rlcredit.identity import digest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "prepare_data.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_a_frozen_set_holds_all_documents_and_prompts_and_a_card(script, esci_folder, tmp_path):
    dataset = ESCI(source=Source.path, path=str(esci_folder), max_train=9)
    task = dataset.load()
    folder = script["freeze"](task, dataset, tmp_path)
    assert folder == tmp_path / f"esci-path-{task.digest[:8]}"
    documents = pq.read_table(folder / "documents.parquet")
    assert documents["document_id"].to_pylist() == list(task.documents.ids)
    assert documents["text"].to_pylist() == list(task.documents.texts)
    prompts = pq.read_table(folder / "prompts.parquet").to_pylist()
    assert [row["prompt_id"] for row in prompts if row["split"] == "test"] == [
        p.prompt_id for p in task.test
    ]
    assert json.loads(prompts[0]["relevance"]) == dict(task.train[0].relevance)
    assert tuple(prompts[0]["pool"]) == task.train[0].pool
    card = json.loads((folder / "card.json").read_text())
    assert card["digest"] == task.digest
    assert card["fingerprint"] == digest(data_identity(dataset))
    assert card["counts"] == dict(task.counts)
    assert card["prompts"] == {
        "train": 9,
        "validation": len(task.validation),
        "test": len(task.test),
    }
    assert card["settings"]["max_train"] == 9


def test_the_script_takes_the_words_of_train_py(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = script["main"](["dataset=hm", "dataset.max_test=7", "seed=3"])
    card = json.loads((folder / "card.json").read_text())
    assert (tmp_path / folder).parent == tmp_path / "outputs" / "data"
    assert card["name"] == "hm"
    assert card["prompts"]["test"] == 7
    said = capsys.readouterr().out
    assert "7  test prompts" in said
    assert card["digest"] in said
    assert "data: generated" in said
