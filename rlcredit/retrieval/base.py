"""What a retriever, an index over documents, and an encoder are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from rlcredit.text.words import is_word


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The catalogue: ids and the text that is indexed, in one order.

    Raises:
        ValueError: If ids repeat or are not one word each, or the two lengths differ.
    """

    ids: tuple[str, ...]
    texts: Sequence[str]
    """A tuple, or what reads texts from a disk one by one."""

    def __post_init__(self) -> None:
        """Check that ids and texts belong together."""
        if len(self.ids) != len(self.texts):
            raise ValueError(f"{len(self.ids)} document ids for {len(self.texts)} texts")
        if len(set(self.ids)) != len(self.ids):
            seen: set[str] = set()
            twice = next(i for i in self.ids if i in seen or seen.add(i))
            raise ValueError(f"document id {twice!r} occurs twice; ids must be unique")
        if not all(map(is_word, self.ids)):
            odd = next(i for i in self.ids if not is_word(i))
            raise ValueError(
                f"document id {odd!r} holds white space or nothing, which files of rankings cannot "
                "say; give documents ids of one word"
            )

    def text(self, document_id: str) -> str:
        """The text of a document, by its id."""
        return self.texts[self._row_of[document_id]]

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {document: row for row, document in enumerate(self.ids)}


@dataclass(frozen=True, kw_only=True)
class Picked(Sequence[str]):
    """Some texts of a sequence in an order of their own, each read when it is asked for."""

    texts: Sequence[str]
    rows: Sequence[int]
    """Where each of them stands in ``texts``."""

    def __len__(self) -> int:
        """How many are picked."""
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        """The texts one after another; none is kept."""
        return map(self.texts.__getitem__, self.rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        """One of the texts, or a run of them."""
        if isinstance(at, slice):
            return [self.texts[row] for row in self.rows[at]]
        return self.texts[self.rows[at]]


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """N encoded texts; only the index that made them reads their rows."""

    known: Bool[Tensor, " N"]
    """False where a text holds nothing that the index knows: it retrieves nothing."""
    rows: Any
    """One row each: a dense tensor, or a sparse matrix."""
    truncated: Bool[Tensor, " N"] | None = None
    """True where a text is longer than the encoder reads; None: texts of any length are read."""


@runtime_checkable
class Index(Protocol):
    """Documents that can be searched with texts."""

    @property
    def document_ids(self) -> tuple[str, ...]:
        """Row order of the documents."""
        ...

    @property
    def digest(self) -> str:
        """Content hash of everything a score depends on: encoder, its settings, documents."""
        ...

    @property
    def encoding(self) -> str | None:
        """Content hash of everything an encoding depends on but its text.

        Such encodings are float32 tensors that are worth remembering; None: they cost less to make.
        """
        ...

    def encode(self, texts: Sequence[str]) -> Encoded:
        """One batch of texts to rows; deterministic, and independent of the other texts to 1e-5."""
        ...

    def score(
        self, encoded: Encoded, rows: Int[Tensor, " N"], documents: Int[Tensor, " K"] | None = None
    ) -> Float[Tensor, "N K"]:
        """Scores of rows against documents (None: all); -inf where nothing is retrieved."""
        ...


@runtime_checkable
class Searcher(Protocol):
    """An index with a faster way through its whole catalogue than scoring every document."""

    def search(
        self, encoded: Encoded, rows: Int[Tensor, " N"], *, depth: int | None
    ) -> tuple[Int[Tensor, "N D"], Float[Tensor, "N D"]]:
        """Rows of documents in rank order, and their scores; -inf where none is left.

        Args:
            encoded: Texts.
            rows: Which of them.
            depth: So many ranks; None: as many as the index looks for.
        """
        ...


@runtime_checkable
class Saturating(Protocol):
    """An index in which a word that a text repeats counts less and less."""

    @property
    def linear(self) -> Index:
        """The same documents, for texts whose repetitions are weights; itself where they are so."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """How documents are indexed and texts are matched; the config of an ``Index``."""

    def index(self, documents: Documents, *, cache: Path) -> Index:
        """Index the documents, or load the index from ``cache`` by its content hash."""
        ...


@runtime_checkable
class Encoder(Protocol):
    """Texts to vectors, for measuring how alike responses are."""

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Unit-norm rows; a text without content gives a zero row."""
        ...
