"""Which characters of a decoded response each of its tokens wrote, and which segment it belongs to.

The spans of a response's tokens cover its text without a gap, in order. Tokens that write parts of
one character (bytes of a multi-byte one) all get that character. Special tokens, which decoding
leaves out, get an empty span.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from rlcredit.text.response import READ_TAGS
from rlcredit.text.spans import Span

_Ids = Sequence[int]
_WINDOW = 16
"""Tokens whose ends are looked for at once."""


@runtime_checkable
class Tokenizer(Protocol):
    """What is read of a tokenizer; those of transformers have it, whatever their version.

    One that has ``is_fast = True`` knows the characters of the tokens that it makes.
    """

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Token id -> added token, with its ``content`` and whether it is ``special``."""
        ...

    @property
    def all_special_ids(self) -> Sequence[int]:
        """Ids of the special tokens."""
        ...

    def batch_decode(self, *args: Any, **kwargs: Any) -> Any:
        """The texts of rows of token ids."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """``input_ids`` of texts, and ``offset_mapping`` where asked for."""
        ...


def decoded(tokenizer: Tokenizer, batch: Sequence[_Ids]) -> list[str]:
    """The text of each response, special tokens left out, nothing tidied."""
    special = _special_ids(tokenizer)
    return _spelled(tokenizer, [[token for token in ids if token not in special] for ids in batch])


def char_spans(tokenizer: Tokenizer, ids: _Ids, text: str) -> list[Span]:
    """The characters of one response's tokens; see :func:`batch_char_spans`."""
    return batch_char_spans(tokenizer, [ids], [text])[0]


def batch_char_spans(
    tokenizer: Tokenizer, batch: Sequence[_Ids], texts: Sequence[str]
) -> list[list[Span]]:
    """The characters that each token wrote, for a batch of responses.

    A text that encodes to the very tokens it was decoded from has the tokenizer's own offsets. A
    sampler may write tokens that the tokenizer would not choose; their ends are found by decoding
    ever longer prefixes.

    Args:
        tokenizer: The one that decoded the texts.
        batch: Token ids of each response, special ones included, padding left out.
        texts: Their decodings (:func:`decoded`).

    Returns:
        A half-open span per token.

    Raises:
        ValueError: If a text is not the decoding of its tokens.
    """
    special = _special_ids(tokenizer)
    written = [[token for token in ids if token not in special] for ids in batch]
    spans = _reencoded(tokenizer, written, texts)
    for i in (i for i, found in enumerate(spans) if found is None):
        spans[i] = _by_windows(tokenizer, written[i], texts[i])
    return [
        _with_special(ids, special, found or []) for ids, found in zip(batch, spans, strict=True)
    ]


def segment_ids(char_spans: Int[Tensor, "T 2"], spans: Sequence[Span]) -> Int[Tensor, " T"]:
    """The segment that each token overlaps most (the earlier of two equals); -1 for none.

    Args:
        char_spans: Half-open characters of each token.
        spans: M disjoint segments.
    """
    if not spans:
        return torch.full((char_spans.shape[0],), -1)
    bounds = torch.tensor(spans)
    start = torch.maximum(char_spans[:, :1], bounds[:, 0])
    end = torch.minimum(char_spans[:, 1:], bounds[:, 1])
    most, segment = (end - start).max(dim=1)
    return torch.where(most > 0, segment, -1)


def _special_ids(tokenizer: Tokenizer) -> set[int]:
    """Tokens that are no text. Tags that are read are text, whatever the tokenizer calls them."""
    added = tokenizer.added_tokens_decoder.items()
    special = {i for i, token in added if token.special} | set(tokenizer.all_special_ids)
    return special - {i for i, token in added if token.content in READ_TAGS}


def _spelled(tokenizer: Tokenizer, batch: Sequence[_Ids]) -> list[str]:
    """The text of each row, special tokens included."""
    return tokenizer.batch_decode(
        [list(ids) for ids in batch], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def _reencoded(
    tokenizer: Tokenizer, written: Sequence[_Ids], texts: Sequence[str]
) -> list[list[Span] | None]:
    """Spans from the tokenizer's offsets; None where a text encodes to other tokens."""
    if not getattr(tokenizer, "is_fast", False) or not texts:
        return [None] * len(texts)
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )
    heads = _spelled(tokenizer, [ids[:1] for ids in written])
    rows = zip(written, heads, encoded["input_ids"], encoded["offset_mapping"], texts, strict=True)
    return [
        _without_gaps(offsets, head, len(text)) if ids == again else None
        for ids, head, again, offsets, text in rows
    ]


def _without_gaps(offsets: Sequence[tuple[int, int]], head: str, length: int) -> list[Span]:
    """Offsets made to cover the text.

    White space that they skip belongs to the token behind it. A first token that decodes to nothing
    is a space that the tokenizer puts in front; its offsets claim the first character.
    """
    ends = list(accumulate((end for _, end in offsets), max))
    ends[:1] = [ends[0] if head else 0] * bool(ends)
    ends[-1:] = [length] * bool(ends)
    starts = [0, *ends][:-1]
    return [
        Span(min(start, reached), end)
        for (start, _), reached, end in zip(offsets, starts, ends, strict=True)
    ]


def _by_windows(tokenizer: Tokenizer, ids: _Ids, text: str) -> list[Span]:
    """Spans of one response from the decoding of every prefix of its tokens, window by window.

    Of a prefix only the tokens from the window before are decoded, so the work grows with the
    length of the response, not with its square. A window ends behind a token that completes its
    character; where it has none, the next one is twice as wide and decoded from the first token on.
    """
    (whole,) = _spelled(tokenizer, [ids])
    if whole != text:
        raise ValueError(
            f"{text!r} is not the decoding of its tokens, which is {whole!r}; decode them with "
            "rlcredit.text.tokens.decoded"
        )
    spans: list[Span] = []
    start, width = 0, _WINDOW
    while (done := len(spans)) < len(ids):
        ends = range(done, min(done + width, len(ids)) + 1)
        context, *prefixes = _spelled(tokenizer, [ids[start:end] for end in ends])
        reached = spans[-1].end if spans else 0
        found = _grown(prefixes, text, reached, origin=reached - len(context))
        spans += found
        start, width = (done, _WINDOW) if found else (0, 2 * width)
    return spans


def _grown(prefixes: Sequence[str], text: str, reached: int, *, origin: int) -> list[Span]:
    """Spans of tokens, up to the last one that leaves no character incomplete.

    What a prefix shares with the text beyond the one before, its token wrote. A prefix that ends
    within a character decodes to a placeholder there; its token and those that complete the
    character all get it.

    Args:
        prefixes: Each one token longer than the one before.
        text: Of the whole response.
        reached: Characters of it that were written before the first of these tokens.
        origin: Character of it at which the prefixes begin.
    """
    spans: list[Span] = []
    whole = 0
    for prefix in prefixes:
        start, end = reached, min(origin + len(prefix), len(text))
        while reached < end and prefix[reached - origin] == text[reached]:
            reached += 1
        spans.append(Span(start, min(reached + (origin + len(prefix) > reached), len(text))))
        whole = len(spans) if reached == origin + len(prefix) else whole
    return spans[:whole]


def _with_special(ids: _Ids, special: set[int], found: Sequence[Span]) -> list[Span]:
    """The spans of the written tokens, with empty ones in between for the special tokens."""
    spans, rest, reached = [], iter(found), 0
    for token in ids:
        span = Span(reached, reached) if token in special else next(rest)
        reached = span.end
        spans.append(span)
    return spans
