"""Who is on which side: stable hashes of keys, and disjoint pairs for the generated tasks."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import TypeAlias

import numpy as np

Pair: TypeAlias = tuple[int, int]


def share_of(key: str, *, purpose: str) -> float:
    """A number in [0, 1) that depends on the key and the purpose alone: the same in every run."""
    digest = blake2b(f"{purpose}/{key}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def sample_by_hash(keys: Iterable[str], limit: int | None, *, purpose: str) -> list[str]:
    """At most ``limit`` keys in hash order; a larger limit keeps all that a smaller one keeps."""
    ordered = sorted(keys, key=lambda key: (share_of(key, purpose=purpose), key))
    return ordered if limit is None else ordered[:limit]


def split_pairs(
    rng: np.random.Generator,
    *,
    num_rows: int,
    num_columns: int,
    held_out_per_row: int,
    num_test: int,
) -> dict[str, list[Pair]]:
    """Disjoint (row, column) pairs for train, validation and test; every half is seen in training.

    Neighbouring rows hold out different columns, so that a column is held out at most once in
    ``num_columns // held_out_per_row`` neighbouring rows.
    """
    order = rng.permutation(num_columns)
    held_out = [
        (row, int(order[(held_out_per_row * row + place) % num_columns]))
        for row in range(num_rows)
        for place in range(held_out_per_row)
    ]
    held_out = [held_out[at] for at in rng.permutation(len(held_out))]
    everything = [(row, column) for row in range(num_rows) for column in range(num_columns)]
    hidden = set(held_out)
    return {
        "train": [pair for pair in everything if pair not in hidden],
        "validation": held_out[num_test:],
        "test": held_out[:num_test],
    }
