"""Settings of all tests."""

import gc

from hypothesis import settings

settings.register_profile("rlcredit", deadline=None, derandomize=True)
settings.load_profile("rlcredit")


def pytest_collection_finish():
    """Imported modules are a million objects that stay: no later garbage collection visits them."""
    gc.collect()
    gc.freeze()
