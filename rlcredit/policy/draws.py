"""Random draws of libraries that know no stream but torch's global one."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def global_stream(generator: torch.Generator) -> Iterator[None]:
    """Inside, torch's global CPU stream starts from ``generator``; afterwards it is as before."""
    seed = int(torch.randint(2**62, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
