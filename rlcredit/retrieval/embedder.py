"""Sentence vectors from sentence-transformers models.

Imported when a model is first needed: the library takes seconds to import.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from queue import SimpleQueue
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sentence_transformers import SentenceTransformer
from tokenizers import Encoding
from torch import Tensor
from transformers import BatchEncoding

from rlcredit.retrieval.base import Encoded
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.kinds import Dtype, Role
from rlcredit.retrieval.models import model_digest
from rlcredit.retrieval.vectors import unit_rows

_log = logging.getLogger(__name__)

_CHUNK = 4096
_SECONDS_BETWEEN_REPORTS = 10.0
_TOKENS_OF_TEXT = 16
"""A batch holds as many tokens as ``batch_size`` texts of this length."""
_LEAST_TOKENS = 32
"""Fewer are multiplied by other routines, with other last bits: such a batch repeats its rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What goes through the model in one pass: N texts of one length in tokens, none padded."""

    picked: Int[Tensor, " N"]
    """Positions of its texts."""
    features: dict[str, Any]
    """The model's input; its first N rows are the texts, in order, and more rows repeat them."""
    truncated: Bool[Tensor, " N"]
    encodings: list[Encoding]
    """What the tokenizer made of each text, padding included."""
    columns: slice
    """Columns of the encodings that the texts of the batch fill, padding left out."""

    @property
    def offsets(self) -> list[list[tuple[int, int]]]:
        """Half-open characters of each text's tokens, in the prompt and the text behind it."""
        return [encoding.offsets[self.columns] for encoding in self.encodings]


@dataclass(kw_only=True, eq=False)
class _Progress:
    """Says now and then how many texts are done, and how long the others will take."""

    total: int
    done: int = 0
    start: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def __call__(self, more: int) -> None:
        self.done += more
        now = time.monotonic()
        if now - self.said > _SECONDS_BETWEEN_REPORTS and self.done < self.total:
            left = (now - self.start) / self.done * (self.total - self.done)
            _log.info("encoded %d of these %d texts, %.0f s left", self.done, self.total, left)
            self.said = now


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceEmbedder:
    """Texts in one role to vectors, in batches of one length.

    With several copies of the model each batch goes to one that is free, in a thread of its own.
    The batches are those that a single model would get, so the vectors do not depend on how many
    copies there are.
    """

    copies: tuple[SentenceTransformer, ...]
    """The model, once for each device; vectors are gathered on the first one's."""
    prompt: str
    role: Role
    unit: bool
    """Scale vectors to length 1."""
    dtype: Dtype
    batch_size: int

    @property
    def model(self) -> SentenceTransformer:
        """The first copy."""
        return self.copies[0]

    @property
    def digest(self) -> str:
        """Hash of all that a vector depends on but its text."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest(model_digest(self.model), self.prompt, self.role, str(self.unit), self.dtype)

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self.model.device

    @property
    def num_dimensions(self) -> int:
        """Length of a vector."""
        return int(self.model.get_embedding_dimension() or 0)

    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Vectors, and which texts hold a token the model knows. Long ones are cut, and flagged."""
        rows = torch.zeros(len(texts), self.num_dimensions, device=self.model.device)
        known = torch.zeros(len(texts), dtype=torch.bool)
        truncated = torch.zeros(len(texts), dtype=torch.bool)
        report = _Progress(total=len(texts))
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        for first in range(0, len(texts), _CHUNK):
            chunk = [i for i in by_length[first : first + _CHUNK] if has_word(texts[i])]
            for batch, vectors in self._encoded(self.batches([texts[i] for i in chunk])):
                place = torch.tensor([chunk[i] for i in batch.picked.tolist()])
                rows[place.to(rows.device)], known[place] = vectors, True
                truncated[place] = batch.truncated
                report(len(place))
        return Encoded(known=known, rows=rows, truncated=truncated)

    def batches(self, texts: list[str]) -> Iterator[Batch]:
        """Batches of known texts of one length in tokens, long ones first.

        Nothing is padded, so no processor time goes to padding, and a text's vector does not depend
        on the lengths of the others.
        """
        if not texts:
            return
        features = self.model.preprocess(texts, prompt=self.prompt or None, task=self.role.value)
        assert isinstance(features, BatchEncoding), "texts alone: the tokenizer's own output"
        assert features.encodings is not None, "of a tokenizer with offsets"
        lengths = features["attention_mask"].sum(dim=1)
        widest = features["attention_mask"].shape[1]
        known = self._known(features["input_ids"])
        truncated = self._truncated(texts, lengths)
        left = self.model.tokenizer.padding_side == "left"
        tokens = self.batch_size * _TOKENS_OF_TEXT
        for length in lengths[known].unique().flip(0).tolist():
            same = (known & (lengths == length)).nonzero().squeeze(1)
            columns = slice(widest - length, None) if left else slice(length)
            for picked in same.split(max(tokens // length, 1)):
                rows = picked.repeat(-(-_LEAST_TOKENS // (length * len(picked))))
                batch = {
                    key: value[rows][:, columns].to(self.model.device)
                    if isinstance(value, Tensor) and value.shape == features["input_ids"].shape
                    else value
                    for key, value in features.items()
                }
                yield Batch(
                    picked=picked,
                    features=batch,
                    truncated=truncated[picked],
                    encodings=[features.encodings[row] for row in picked.tolist()],
                    columns=columns,
                )

    def _truncated(self, texts: Sequence[str], lengths: Tensor) -> Tensor:
        """True for texts of which the model does not read the end."""
        limit, tokenizer = self.model.max_seq_length, self.model.tokenizer
        full = lengths >= (torch.inf if limit is None else limit)
        rows: list[int] = full.nonzero().squeeze(1).tolist()
        for row in rows:
            whole = tokenizer(self.prompt + texts[row], truncation=False, verbose=False)
            full[row] = len(whole["input_ids"]) > int(lengths[row])
        return full

    def _encoded(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Float[Tensor, "n D"]]]:
        """Batches in their order, with the vectors of their texts."""
        if len(self.copies) == 1:
            yield from ((batch, self._vectors(self.model, batch)) for batch in batches)
            return
        free: SimpleQueue[SentenceTransformer] = SimpleQueue()
        for copy in self.copies:
            free.put(copy)

        def encoded(batch: Batch) -> tuple[Batch, Float[Tensor, "n D"]]:
            copy = free.get()
            try:
                return batch, self._vectors(copy, batch)
            finally:
                free.put(copy)

        with ThreadPoolExecutor(len(self.copies)) as threads:
            yield from threads.map(encoded, batches)

    @torch.no_grad()
    def _vectors(self, model: SentenceTransformer, batch: Batch) -> Float[Tensor, "n D"]:
        features = {
            key: value.to(model.device) if isinstance(value, Tensor) else value
            for key, value in batch.features.items()
        }
        with self.autocast():
            found = model(features, task=self.role.value)["sentence_embedding"].float()
        rows = unit_rows(found) if self.unit else found
        return rows[: len(batch.picked)].to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """The number format of products, for a pass through the model."""
        lower = self.dtype is Dtype.bfloat16
        return torch.autocast(self.model.device.type, torch.bfloat16, enabled=lower)

    def _known(self, ids: Tensor) -> Tensor:
        """True for texts with a token of their own that the model's vocabulary has."""
        tokenizer = self.model.tokenizer
        special = torch.tensor(sorted(tokenizer.all_special_ids))
        prompt = tokenizer(self.prompt, add_special_tokens=False)["input_ids"]
        return (~torch.isin(ids, special)).sum(dim=1) > len(prompt)


def has_word(text: str) -> bool:
    """Whether there is anything to search with."""
    return any(character.isalnum() for character in text)


def own_prompt(model: SentenceTransformer, role: Role) -> str:
    """The prompt that the model's configuration has for a role; "" if it has none."""
    names = ("query",) if role is Role.query else ("document", "passage", "corpus")
    return next((prompt for name in names if (prompt := model.prompts.get(name))), "")
