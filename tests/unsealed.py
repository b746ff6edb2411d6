"""A checked JSON file as one of before, which had no checksum: for tests that rewrite it."""

import json


def unsealed(path):
    """What the file holds, without its checksum."""
    record = json.loads(path.read_text())
    record.pop("check", None)
    return record
