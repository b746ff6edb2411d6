from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlcredit.tasks import ESCI, HM
from rlcredit.tasks.generated import esci_catalogue, hm_catalogue
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS
from rlcredit.tasks.published.hm_files import ARTICLES, TRANSACTIONS
from rlcredit.tasks.settings import Source

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="session")
def esci_made():
    return esci_catalogue.generate(0, pool_size=100)


@pytest.fixture(scope="session")
def hm_made():
    return hm_catalogue.generate(0, pool_size=100)


@pytest.fixture(scope="session")
def esci():
    return ESCI().load()


@pytest.fixture(scope="session")
def two_intents():
    """A fifth of the queries have two possible intents."""
    return ESCI(ambiguous_share=0.2).load()


@pytest.fixture(scope="session")
def hm():
    return HM().load()


@pytest.fixture(scope="session")
def esci_examples(esci_made):
    """The judgements of a third of the generated queries, in the published form."""
    return replace(esci_made, queries=esci_made.queries[::3]).examples()


@pytest.fixture(scope="session")
def esci_folder(esci_made, esci_examples, tmp_path_factory):
    """The generated set as published files."""
    folder = tmp_path_factory.mktemp("esci")
    pq.write_table(esci_examples, folder / f"{EXAMPLES}.parquet")
    pq.write_table(esci_made.products, folder / f"{PRODUCTS}.parquet")
    return folder


@pytest.fixture(scope="session")
def hm_folder(hm_made, tmp_path_factory):
    """The generated shop as published files."""
    folder = tmp_path_factory.mktemp("hm")
    pq.write_table(hm_made.articles, folder / f"{ARTICLES}.parquet")
    pq.write_table(hm_made.transactions(), folder / f"{TRANSACTIONS}.parquet")
    return folder


@pytest.fixture(scope="session")
def published_esci(esci_folder):
    return ESCI(source=Source.path, path=str(esci_folder)).load()


@pytest.fixture(scope="session")
def published_hm(hm_folder):
    return HM(source=Source.path, path=str(hm_folder)).load()


@pytest.fixture(scope="session")
def real_esci():
    folder = SHARED / "esci"
    if not folder.is_dir():
        pytest.skip(f"the ESCI fragment is not at {folder}")
    return ESCI(source=Source.path, path=str(folder)).load()


@pytest.fixture(scope="session")
def real_hm():
    folder = SHARED / "hm"
    if not folder.is_dir():
        pytest.skip(f"the H&M fragment is not at {folder}")
    return HM(source=Source.path, path=str(folder)).load()


@pytest.fixture(
    scope="session",
    params=["esci", "two_intents", "hm", "published_esci", "published_hm", "real_esci", "real_hm"],
)
def any_task(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def any_titles(any_task, request, esci_made, hm_made):
    """Document id -> its title as the files have it."""
    real = request.node.callspec.params["any_task"].startswith("real")
    made, key, title, name = {
        "esci": (esci_made.products, "product_id", "product_title", PRODUCTS),
        "hm": (hm_made.articles, "article_id", "prod_name", ARTICLES),
    }[any_task.name]
    table = pq.read_table(SHARED / any_task.name / f"{name}.parquet") if real else made
    return dict(zip(table[key].to_pylist(), table[title].to_pylist(), strict=True))
