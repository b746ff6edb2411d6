import json
import sys

import pyarrow.parquet as pq

from rlcredit.commands.prepare import freeze, main
from rlcredit.identity import digest
from rlcredit.tasks import ESCI
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.settings import Source


def test_a_frozen_set_holds_all_documents_and_prompts_and_a_card(esci_folder, tmp_path):
    dataset = ESCI(source=Source.path, path=str(esci_folder), max_train=9)
    task = dataset.load()
    folder = freeze(task, dataset, tmp_path)
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


def test_the_command_takes_the_words_of_train(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["rlcredit prepare", "dataset=hm", "dataset.max_test=7", "seed=3"]
    )
    main()
    (folder,) = (tmp_path / "outputs" / "data").iterdir()
    card = json.loads((folder / "card.json").read_text())
    assert card["name"] == "hm"
    assert card["prompts"]["test"] == 7
    said = capsys.readouterr().out
    assert "7  test prompts" in said
    assert card["digest"] in said
    assert "data: generated" in said
    assert said.endswith(f"{folder.relative_to(tmp_path)}\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]
