"""The type of the machine: what the last bits of a number depend on besides program and threads."""

from functools import cache
from hashlib import blake2b

import numpy as np
import torch
from torch.nn.functional import gelu, layer_norm, silu

from rlcredit.types import Randomness

_SIZE = (64, 256)
"""Rows and columns of what is computed: below what libraries share among threads."""


@cache
def machine_type() -> str:
    """Name of this process's arithmetic: two that share it compute the same last bits.

    Sums have another order, and functions another last bit, with another instruction set or another
    version of a library. Libraries choose their routines by the model of the processor and do not
    say which, so the name is a hash of what they compute: draws, products, sums and functions of
    torch and NumPy, in float32 and float64. Machines that these do not tell apart are of one type.
    The number of threads, which orders large sums, is left out.

    Returns:
        Like ``AVX512-0f93a4c2``: torch's instruction set, and the hash.
    """
    state = blake2b(digest_size=4)
    generator = Randomness(seed=0, step=0).generator("machine")
    for dtype in (torch.float32, torch.float64):
        drawn = torch.randn(_SIZE, generator=generator, dtype=dtype)
        for result in (*_in_torch(drawn), *_in_numpy(drawn.numpy())):
            state.update(np.ascontiguousarray(result).tobytes())
    return f"{torch.backends.cpu.get_cpu_capability()}-{state.hexdigest()}"


def _in_torch(drawn: torch.Tensor) -> list[np.ndarray]:
    """What policies and encoders are made of."""
    by_row = (drawn.softmax(-1), drawn.log_softmax(-1), layer_norm(drawn, drawn.shape[-1:]))
    functions = (gelu, silu, torch.exp, torch.sum, torch.norm)
    results = (drawn, drawn @ drawn.T, *by_row, *(function(drawn) for function in functions))
    return [result.numpy() for result in results]


def _in_numpy(drawn: np.ndarray) -> list[np.ndarray]:
    """What bags of words are weighed with."""
    return [np.exp(drawn), np.log1p(np.abs(drawn)), np.asarray(drawn.sum())]
