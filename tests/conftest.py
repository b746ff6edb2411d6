"""Settings of all tests."""

from hypothesis import settings

settings.register_profile("rlcredit", deadline=None, derandomize=True)
settings.load_profile("rlcredit")
