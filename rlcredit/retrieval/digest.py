"""Content hashes of what a score depends on."""

from collections.abc import Iterable

import xxhash


def digest(*parts: str | bytes | Iterable[str]) -> str:
    """Hash of texts, bytes and lists of texts; any change in any of them changes it."""
    state = xxhash.xxh3_128()
    for part in parts:
        if isinstance(part, str | bytes):
            _add(state, part)
            continue
        for text in part:
            _add(state, text)
        state.update(b"]")
    return state.hexdigest()


def _add(state: xxhash.xxh3_128, part: str | bytes) -> None:
    content = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
    state.update(f"{len(content)}:".encode())
    state.update(content)
