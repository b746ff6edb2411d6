import pytest

from tests.distributed.worlds import METHODS, alone, policy, start


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """With the policy of the worlds in it."""
    folder = tmp_path_factory.mktemp("policy")
    made = policy(folder)
    made.model.float()
    made.export(folder / "hf")
    return folder


@pytest.fixture(scope="session")
def by_one(cache, tmp_path_factory):
    """The folder of what comes of every method in one process."""
    folder = tmp_path_factory.mktemp("one")
    start(alone, cache, folder, list(METHODS), processes=1)
    return folder
