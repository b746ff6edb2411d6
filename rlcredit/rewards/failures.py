"""What becomes of texts that a retriever fails on: they are saved, and the run stops."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NoReturn


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Raises with the texts saved; a reward that cannot be had is never 0."""

    folder: Path | None
    """Folder that the texts are kept in; None: they are not kept."""

    def __call__(self, texts: Sequence[str], what: str, cause: Exception | None = None) -> NoReturn:
        """Say what the retriever did, on which texts, and where they are.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError(
            f"the retriever {what}, on {len(texts)} texts, of which the first is {texts[0]!r}; "
            f"{self._kept(texts, what)}; no reward was given for them"
        ) from cause

    def _kept(self, texts: Sequence[str], what: str) -> str:
        """Save the texts of a failure; what became of them."""
        if self.folder is None:
            return "they were not saved (bind the reward with failures=<folder>)"
        content = json.dumps({"failure": what, "texts": list(texts)}, ensure_ascii=False, indent=1)
        name = blake2b(content.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        path = self.folder / f"retriever-{name}.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8", errors="surrogatepass")
        except OSError as error:
            return f"they could not be saved as {path} ({error})"
        return f"they are saved in {path}"
