"""Does an index fit? Arithmetic first, since a process that finds no memory is killed."""

import os
import re
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
_CPU = torch.device("cpu")


def refuse_what_does_not_fit(what: str, num_bytes: int, device: torch.device = _CPU) -> None:
    """Refuse to build what is larger than the memory that is left.

    Args:
        what: It, with its sizes.
        num_bytes: What it takes.
        device: Where it is to lie.

    Raises:
        ValueError: If it does not fit.
    """
    left = available(device)
    if num_bytes > left:
        raise ValueError(
            f"{what} takes {num_bytes / 1e9:.3g} GB, and {left / 1e9:.3g} GB of {device.type}'s "
            "memory are left; search fewer documents (dataset.max_documents, dataset.size), take "
            "an encoder of fewer dimensions (retriever=minilm has 384) or retriever=bm25, or run "
            "where there is more memory"
        )


def available(device: torch.device) -> int:
    """Bytes that a process may still take on a device.

    On a processor: what Linux says is available, within the limit of the control group; elsewhere
    all the memory that the machine has.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not _MEMINFO.exists():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    said = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
    left = int(said[1]) * 1024 if said else os.sysconf("SC_PHYS_PAGES") * 4096
    limit, used = _GROUP / "memory.max", _GROUP / "memory.current"
    if limit.exists() and limit.read_text().strip().isdigit():
        left = min(left, int(limit.read_text()) - int(used.read_text()))
    return left
