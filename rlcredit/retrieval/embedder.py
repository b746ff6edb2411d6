"""Sentence vectors from sentence-transformers models.

Imported when a model is first needed: the library takes seconds to import.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from sentence_transformers import SentenceTransformer
from torch import Tensor

from rlcredit.retrieval.base import Encoded
from rlcredit.retrieval.digest import digest
from rlcredit.retrieval.kinds import Dtype, Role
from rlcredit.retrieval.models import model_digest
from rlcredit.retrieval.vectors import unit_rows

_log = logging.getLogger(__name__)

_CHUNK = 4096
_SECONDS_BETWEEN_REPORTS = 10.0


@dataclass(frozen=True, kw_only=True, eq=False)
class SentenceEmbedder:
    """Texts in one role to vectors, in batches of similar length."""

    model: SentenceTransformer
    prompt: str
    role: Role
    unit: bool
    """Scale vectors to length 1."""
    dtype: Dtype
    batch_size: int

    @property
    def digest(self) -> str:
        """Hash of all that a vector depends on but its text."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return digest(model_digest(self.model), self.prompt, self.role, str(self.unit), self.dtype)

    @property
    def device(self) -> torch.device:
        """Where the vectors are."""
        return self.model.device

    @property
    def num_dimensions(self) -> int:
        """Of a vector."""
        return int(self.model.get_embedding_dimension() or 0)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Encoded:
        """Vectors, and which texts hold a token that the model knows. Long texts are cut."""
        rows = torch.zeros(len(texts), self.num_dimensions, device=self.model.device)
        known = torch.zeros(len(texts), dtype=torch.bool)
        start = reported = time.monotonic()
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        for first in range(0, len(texts), _CHUNK):
            chunk = [i for i in by_length[first : first + _CHUNK] if _has_word(texts[i])]
            for picked, vectors in self._embedded([texts[i] for i in chunk]):
                place = torch.tensor([chunk[i] for i in picked.tolist()])
                rows[place.to(rows.device)], known[place] = vectors, True
            now, done = time.monotonic(), first + _CHUNK
            if now - reported > _SECONDS_BETWEEN_REPORTS and done < len(texts):
                left = (now - start) / done * (len(texts) - done)
                _log.info("encoded %d of %d texts, %.0f s left", done, len(texts), left)
                reported = now
        return Encoded(known=known, rows=rows)

    def _embedded(self, texts: list[str]) -> Iterator[tuple[Tensor, Float[Tensor, "N D"]]]:
        """Batches of known texts (their positions) with their vectors, long ones first."""
        if not texts:
            return
        features = self.model.preprocess(texts, prompt=self.prompt or None, task=self.role.value)
        lengths = features["attention_mask"].sum(dim=1)
        longest = features["attention_mask"].shape[1]
        known = self._known(features["input_ids"])
        positions = torch.argsort(lengths, descending=True, stable=True)
        left = self.model.tokenizer.padding_side == "left"
        for picked in positions[known[positions]].split(self.batch_size):
            width = int(lengths[picked].max())
            columns = slice(longest - width, None) if left else slice(width)
            batch = {
                key: value[picked][:, columns].to(self.model.device)
                if isinstance(value, Tensor) and value.shape == features["input_ids"].shape
                else value
                for key, value in features.items()
            }
            yield picked, self._vectors(batch)

    def _vectors(self, batch: dict[str, Tensor]) -> Float[Tensor, "N D"]:
        lower = self.dtype is Dtype.bfloat16
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=lower):
            found = self.model(batch, task=self.role.value)["sentence_embedding"].float()
        return unit_rows(found) if self.unit else found

    def _known(self, ids: Tensor) -> Tensor:
        """True for texts with a token of their own that the model's vocabulary has."""
        tokenizer = self.model.tokenizer
        special = torch.tensor(sorted(tokenizer.all_special_ids))
        prompt = tokenizer(self.prompt, add_special_tokens=False)["input_ids"]
        return (~torch.isin(ids, special)).sum(dim=1) > len(prompt)


def _has_word(text: str) -> bool:
    return any(character.isalnum() for character in text)


def own_prompt(model: SentenceTransformer, role: Role) -> str:
    """The prompt that the model's configuration has for a role; "" if it has none."""
    names = ("query",) if role is Role.query else ("document", "passage", "corpus")
    return next((prompt for name in names if (prompt := model.prompts.get(name))), "")
