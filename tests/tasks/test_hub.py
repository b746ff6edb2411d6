import datasets
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rlcredit.tasks import ESCI
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.settings import Source

NAMES = {"E": "Exact", "S": "Substitute", "C": "Complement", "I": "Irrelevant"}


@pytest.fixture
def hub_folder(esci_made, esci_examples, tmp_path, monkeypatch):
    """The generated set in the hub's layout: one table, labels spelled out, a file per split."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    examples = esci_examples
    labels = pa.array([NAMES[label] for label in examples["esci_label"].to_pylist()])
    examples = examples.set_column(examples.column_names.index("esci_label"), "esci_label", labels)
    numbers = pa.array([1] * len(examples))
    at = examples.column_names.index("small_version")
    examples = examples.set_column(at, "small_version", numbers)
    both = examples.join(esci_made.products.drop_columns(["product_locale"]), "product_id")
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        rows = both.filter(pc.equal(both["split"], split)).drop_columns(["split"])
        pq.write_table(rows, folder / f"{split}-00000-of-00001.parquet")
    return tmp_path / "hub"


def test_the_hubs_table_gives_the_published_files_prompts(hub_folder, published_esci):
    task = ESCI(source=Source.hub, hub_name=str(hub_folder)).load()
    assert task.source == "hub"
    assert [p.prompt_id for p in task.train] == [p.prompt_id for p in published_esci.train]
    assert [p.relevance for p in task.test] == [p.relevance for p in published_esci.test]
    assert task.digest == published_esci.digest


def test_a_missing_column_is_named(hub_folder):
    for file in (hub_folder / "data").iterdir():
        pq.write_table(pq.read_table(file).drop_columns(["product_brand"]), file)
    with pytest.raises(ValueError, match=r"no column product_brand; found"):
        ESCI(source=Source.hub, hub_name=str(hub_folder)).load()


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no train\*.parquet and test\*.parquet"):
        ESCI(source=Source.hub, hub_name=str(tmp_path)).load()


def test_without_a_network_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"dataset.source=path dataset.path="):
        ESCI(source=Source.hub).load()


def test_the_identity_follows_name_and_revision():
    hub = ESCI(source=Source.hub)
    assert data_identity(hub) != data_identity(ESCI(source=Source.hub, revision="abc"))
    assert data_identity(hub) != data_identity(ESCI(source=Source.hub, hub_name="me/esci"))
