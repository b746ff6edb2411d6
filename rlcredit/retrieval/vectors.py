"""Exact search among unit vectors: a score is an inner product."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from rlcredit.retrieval.base import Encoded
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.top import Best

_SHORTEST = 1e-12
DOCUMENTS_AT_ONCE = 2**17
"""Documents of a block of exact search. A catalogue that fits into one is multiplied as a whole."""


@dataclass(frozen=True, kw_only=True, eq=False)
class VectorIndex:
    """Documents as unit vectors; a text that is known retrieves all of them."""

    document_ids: tuple[str, ...]
    digest: str
    vectors: Float[Tensor, "K D"]
    """One per document; zero for a document without content."""
    embed: Callable[[Sequence[str]], Encoded]
    """Texts to vectors of the same space."""
    embed_linear: Callable[[Sequence[str]], Encoded] | None = None
    """The same for texts whose repetitions are weights; None: ``embed`` reads them so."""
    encoding: str | None = None
    """Content hash of everything an encoding depends on but its text; None: not to be
    remembered."""

    @property
    def linear(self) -> "VectorIndex":
        """The same documents, for texts whose repetitions are weights."""
        if self.embed_linear is None:
            return self
        own = digest(self.digest, "linear")
        return replace(self, embed=self.embed_linear, embed_linear=None, digest=own)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed texts in the documents' space."""
        return self.embed(texts)

    def score(
        self, encoded: Encoded, rows: Int[Tensor, " N"], documents: Int[Tensor, " K"] | None = None
    ) -> Float[Tensor, "N K"]:
        """Multiply the texts' vectors with the documents'; -inf where a text is not known.

        Raises:
            ValueError: If the texts were encoded by another index, in another dimension.
        """
        device = self.vectors.device
        some = self.vectors if documents is None else self.vectors[documents.to(device)]
        return self._scored(encoded, rows, some)

    def _scored(
        self, encoded: Encoded, rows: Int[Tensor, " N"], some: Float[Tensor, "K D"]
    ) -> Float[Tensor, "N K"]:
        self.refuse_foreign(encoded)
        asked = encoded.rows[rows.to(encoded.rows.device)].to(some.device)
        return (asked @ some.T).cpu().masked_fill_(~encoded.known[rows, None], -torch.inf)

    def search(
        self, encoded: Encoded, rows: Int[Tensor, " N"], *, depth: int | None
    ) -> tuple[Int[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Documents in rank order, exactly, and their scores; scored block by block.

        Args:
            encoded: Texts.
            rows: Which of them.
            depth: So many ranks; None: all documents.

        Raises:
            ValueError: If the texts were encoded by another index, in another dimension.
        """
        number = len(self.document_ids)
        best = Best(depth=number if depth is None else min(depth, number), num_rows=len(rows))
        for first in range(0, number, DOCUMENTS_AT_ONCE):
            block = self.vectors[first : first + DOCUMENTS_AT_ONCE]
            best.add(self._scored(encoded, rows, block), first)
        return best.found

    def refuse_foreign(self, encoded: Encoded) -> None:
        """Refuse texts of another space.

        Raises:
            ValueError: If the texts were encoded in another dimension.
        """
        if encoded.rows.shape[1] != self.vectors.shape[1]:
            raise ValueError(
                f"texts of {encoded.rows.shape[1]} dimensions cannot be compared with documents of "
                f"{self.vectors.shape[1]}; encode them with this index"
            )


def unit_rows(rows: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Rows scaled to length 1; a zero row stays zero."""
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=_SHORTEST)


def has_length(rows: Float[Tensor, "N D"]) -> Tensor:
    """True for rows that are not zero."""
    return rows.norm(dim=1) > _SHORTEST
