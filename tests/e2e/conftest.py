import os

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Warm starts and embeddings, made once for all runs (and workers) of a session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return shared / "cache"
