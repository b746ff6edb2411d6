import pytest

from tests.distributed.worlds import policy


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """With the policy of the worlds in it."""
    folder = tmp_path_factory.mktemp("policy")
    policy(folder)
    return folder
