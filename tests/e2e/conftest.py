import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Warm starts and embeddings are made once for all runs of a session."""
    return tmp_path_factory.mktemp("cache")
