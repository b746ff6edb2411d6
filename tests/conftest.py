"""Settings of all tests, and the folder that their runs share."""

import gc
import os

import pytest
from hypothesis import settings

settings.register_profile("rlcredit", deadline=None, derandomize=True)
settings.load_profile("rlcredit")
gc.disable()


def pytest_collection_finish():
    """Imported modules are a million objects that stay: garbage collection never visits them."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Warm starts and embeddings, made once for all runs (and workers) of a session."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return shared / "cache"
