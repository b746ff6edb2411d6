"""Search with sentence-transformers models, pooled, prompted and normalised as the model says."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch

from rlcredit.identity import ASIDE
from rlcredit.retrieval.base import Documents, Encoded
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.kinds import MINILM, Dtype, Pooling, Role
from rlcredit.retrieval.memory import refuse_what_does_not_fit
from rlcredit.retrieval.sparse import searchable
from rlcredit.retrieval.vectors import VectorIndex


@runtime_checkable
class Embedder(Protocol):
    """Texts in one role to vectors."""

    @property
    def digest(self) -> str:
        """Hash of all that a vector depends on but its text."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        ...

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        ...

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Vectors, and which texts hold anything that the model knows."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dense:
    """Similarity of sentence vectors, cosine or dot product as the model says.

    Raises:
        ValueError: If the batch size is below 1, or the model has neither of the two similarities.
    """

    name: str = MINILM
    """A folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Revision of the hub's repository; null: its main branch."""
    query_prompt: str | None = None
    """Put before what is searched with; null: the model's own."""
    document_prompt: str | None = None
    """Put before every document; null: the model's own."""
    pooling: Pooling | None = None
    """null: the model's own."""
    dtype: Dtype = Dtype.float32
    """Format in which search texts are encoded; documents, encoded once, are always float32."""
    batch_size: int = 64
    """Texts of 16 tokens that are encoded together; fewer longer ones, more shorter ones."""
    devices: list[str] = field(default_factory=list, metadata=ASIDE, repr=False)
    """Devices that encode at once, as ``[cuda:0, cuda:1]`` or ``[cpu, cpu]``; none: the process's
    own. A job of several processes has an encoder in each without this."""

    def __post_init__(self) -> None:
        """Check the batch size."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size={self.batch_size}, but a batch has at least 1 text")

    def index(self, documents: Documents, *, cache: Path) -> VectorIndex:
        """Encode the documents, or read their vectors from ``cache/embeddings``.

        Raises:
            RuntimeError: If the extra ``train``, which encodes sentences, is not installed.
            ValueError: If the vectors do not fit into memory.
        """
        documents = searchable(documents)
        queries, passages = self.embedder(Role.query), self.embedder(Role.document)
        from rlcredit.retrieval.store import stored_vectors  # needs safetensors, as embedder did

        name = digest(passages.digest, documents.texts)
        shape = (len(documents.texts), passages.num_dimensions)
        for device in {torch.device("cpu"), queries.device}:
            what = f"an index of {shape[0]:,} vectors of {shape[1]:,} float32 numbers"
            refuse_what_does_not_fit(what, 4 * shape[0] * shape[1], device)
        vectors = stored_vectors(
            cache / "embeddings", name, shape, lambda rows: passages(documents.texts[rows]).rows
        )
        return VectorIndex(
            document_ids=documents.ids,
            digest=digest(name, queries.digest, documents.ids),
            vectors=vectors.to(queries.device),
            embed=queries,
            encoding=queries.digest,
        )

    def embedder(self, role: Role) -> Embedder:
        """Texts in that role to vectors.

        Raises:
            RuntimeError: If the extra ``train``, which encodes sentences, is not installed.
        """
        try:
            from rlcredit.retrieval.embedder import SentenceEmbedder, own_prompt  # takes seconds
            from rlcredit.retrieval.models import load_copies
        except ModuleNotFoundError as error:
            raise RuntimeError(
                f"sentence vectors need {error.name}, which is not installed; "
                "pip install 'rlcredit[train]', or choose retriever=bm25"
            ) from error
        copies = load_copies(self.name, self.revision, self.pooling, tuple(self.devices))
        model = copies[0]
        given = self.query_prompt if role is Role.query else self.document_prompt
        similarity = str(model.similarity_fn_name)
        if similarity not in {"cosine", "dot"}:
            raise ValueError(
                f"{self.name!r} compares by {similarity}; choose a cosine or dot model"
            )
        return SentenceEmbedder(
            copies=copies,
            prompt=own_prompt(model, role) if given is None else given,
            role=role,
            unit=similarity == "cosine",
            dtype=self.dtype if role is Role.query else Dtype.float32,
            batch_size=self.batch_size,
        )
