"""Which characters of a decoded response each of its tokens wrote, and which segment it belongs to.

The spans of a response's tokens cover its text without a gap, in order. Tokens that write parts of
one character (bytes of a multi-byte one) all get that character. Special tokens, which decoding
leaves out, get an empty span.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from rlcredit.text.spans import Span

_Ids = Sequence[int]


def decoded(tokenizer: PreTrainedTokenizerBase, batch: Sequence[_Ids]) -> list[str]:
    """The text of each response, special tokens left out, nothing tidied."""
    return tokenizer.batch_decode(
        [list(ids) for ids in batch], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def char_spans(tokenizer: PreTrainedTokenizerBase, ids: _Ids, text: str) -> list[Span]:
    """The characters of one response's tokens; see :func:`batch_char_spans`."""
    return batch_char_spans(tokenizer, [ids], [text])[0]


def batch_char_spans(
    tokenizer: PreTrainedTokenizerBase, batch: Sequence[_Ids], texts: Sequence[str]
) -> list[list[Span]]:
    """The characters that each token wrote, for a batch of responses.

    A text that encodes to the very tokens it was decoded from has the tokenizer's own offsets. A
    sampler may write tokens that the tokenizer would not choose; their ends are found by decoding
    every prefix.

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
    odd = [i for i, found in enumerate(spans) if found is None]
    for i, found in zip(odd, _by_prefixes(tokenizer, odd, written, texts), strict=True):
        spans[i] = found
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


def _special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    added = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    return added | set(tokenizer.all_special_ids)


def _reencoded(
    tokenizer: PreTrainedTokenizerBase, written: Sequence[_Ids], texts: Sequence[str]
) -> list[list[Span] | None]:
    """Spans from the tokenizer's offsets; None where a text encodes to other tokens."""
    if not tokenizer.is_fast or not texts:
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
    heads = decoded(tokenizer, [ids[:1] for ids in written])
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


def _by_prefixes(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[int],
    written: Sequence[_Ids],
    texts: Sequence[str],
) -> list[list[Span]]:
    """Spans of some rows from the decoding of every prefix of their tokens."""
    counts = [len(written[i]) for i in rows]
    prefixes = decoded(
        tokenizer, [written[i][: k + 1] for i in rows for k in range(len(written[i]))]
    )
    first = [0, *accumulate(counts)]
    return [
        _grown(prefixes[at : at + count], texts[i])
        for i, at, count in zip(rows, first, counts, strict=False)
    ]


def _grown(prefixes: Sequence[str], text: str) -> list[Span]:
    """Spans from the decoded prefixes: what the last one shares with the text, the token wrote.

    A prefix that ends within a character decodes to a placeholder there; its token and those that
    complete the character all get it.
    """
    if (prefixes[-1] if prefixes else "") != text:
        raise ValueError(
            f"{text!r} is not the decoding of its tokens, which is {prefixes[-1:]}; decode them "
            "with rlcredit.text.tokens.decoded"
        )
    spans, reached = [], 0
    for prefix in prefixes:
        start = reached
        while reached < min(len(prefix), len(text)) and prefix[reached] == text[reached]:
            reached += 1
        spans.append(Span(start, min(reached + (len(prefix) > reached), len(text))))
    return spans


def _with_special(ids: _Ids, special: set[int], found: Sequence[Span]) -> list[Span]:
    """The spans of the written tokens, with empty ones in between for the special tokens."""
    spans, rest, reached = [], iter(found), 0
    for token in ids:
        span = Span(reached, reached) if token in special else next(rest)
        reached = span.end
        spans.append(span)
    return spans
