"""Encoders: texts to unit vectors whose inner products say how alike the texts are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix
from torch import Tensor

from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.kinds import MINILM, Dtype, Pooling, Role
from rlcredit.retrieval.vectors import unit_rows
from rlcredit.text.words import folded


@dataclass(frozen=True, kw_only=True)
class Hashing:
    """Counts of character runs within words, hashed into a fixed number of dimensions.

    Raises:
        ValueError: If there is no dimension, or the runs' lengths are not 1 <= shortest <= longest.
    """

    dimensions: int = 1024
    """Length of the vectors."""
    shortest: int = 3
    """Characters in the shortest run."""
    longest: int = 5
    """Characters in the longest run."""

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.dimensions < 1:
            raise ValueError(f"dimensions={self.dimensions}, but it is 1 or more; 1024 is usual")
        if not 1 <= self.shortest <= self.longest:
            raise ValueError(
                f"shortest={self.shortest} and longest={self.longest}; set 1 <= shortest <= longest"
            )

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Hash the runs of characters of each text into a unit row."""
        from sklearn.feature_extraction.text import HashingVectorizer  # 3 s of every start

        vectorizer = HashingVectorizer(
            analyzer="char_wb",
            preprocessor=folded,
            ngram_range=(self.shortest, self.longest),
            n_features=self.dimensions,
        )
        rows = csr_matrix(vectorizer.transform(list(texts)), dtype=np.float32)
        return torch.from_numpy(rows.toarray())


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """Vectors of a sentence-transformers model, as of queries."""

    name: str = MINILM
    """A folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Branch, tag or commit of the model on the hub; None: its main branch."""
    pooling: Pooling | None = None
    """null: the model's own."""
    dtype: Dtype = Dtype.float32
    """Format in which texts are encoded."""

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "N D"]:
        """Encode each text as a query; a text without content gives a zero row."""
        model = Dense(
            name=self.name,
            revision=self.revision,
            pooling=self.pooling,
            dtype=self.dtype,
        )
        return unit_rows(model.embedder(Role.query)(texts).rows).cpu()
