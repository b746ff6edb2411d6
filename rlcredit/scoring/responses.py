"""Responses as a scorer reads them, from token ids or from texts, whoever wrote them."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rlcredit.text.spans import Span
from rlcredit.text.tokens import Tokenizer, batch_char_spans, decoded
from rlcredit.types import Prompt, Responses


def of_tokens(
    prompts: Sequence[Prompt],
    ids: Int[Tensor, "P G T"],
    mask: Bool[Tensor, "P G T"],
    tokenizer: Tokenizer,
    *,
    opened: Sequence[str] = (),
    spans: bool = True,
) -> Responses:
    """Responses that a sampler drew as tokens.

    Args:
        prompts: P of them.
        ids: Tokens of the responses.
        mask: True on the tokens of a response; what is False is not read.
        tokenizer: Decodes the tokens.
        opened: The thought that each prompt opens for its responses
            (:func:`rlcredit.text.response.opened_thought`); empty: none does.
        spans: Find the characters of each token.

    Raises:
        ValueError: If the prompts are not P, or the thoughts are neither P nor none.
    """
    num_prompts, group_size = ids.shape[:2]
    _check(len(prompts), num_prompts, "prompts")
    if opened:
        _check(len(opened), num_prompts, "thoughts that prompts open")
    flat = zip(ids.flatten(0, 1).cpu(), mask.flatten(0, 1).cpu(), strict=True)
    rows = [row[kept].tolist() for row, kept in flat]
    begun = [text for text in opened or [""] * num_prompts for _ in range(group_size)]
    written = decoded(tokenizer, rows)
    texts = [head + text for head, text in zip(begun, written, strict=True)]
    chars = None
    if spans:
        found = batch_char_spans(tokenizer, rows, written)
        moved = [
            [Span(start + len(head), end + len(head)) for start, end in row]
            for head, row in zip(begun, found, strict=True)
        ]
        chars = _placed(moved, mask.flatten(0, 1)).unflatten(0, (num_prompts, group_size))
    return Responses(
        prompts=tuple(prompts),
        texts=_groups(texts, group_size),
        response_mask=mask,
        char_spans=chars,
    )


def of_texts(
    prompts: Sequence[Prompt],
    texts: Sequence[Sequence[str]],
    tokenizer: Tokenizer | None = None,
) -> Responses:
    """Responses that are known as texts; no end token.

    With a tokenizer a text is taken as its tokens spell it, which is the text itself for a
    byte-level tokenizer. Without one every character is a token.

    Args:
        prompts: P of them.
        texts: [P][G] of them.
        tokenizer: Cuts the texts into tokens.

    Raises:
        ValueError: If the groups have different sizes, or are not P.
    """
    _check(len(texts), len(prompts), "groups of responses")
    sizes = {len(group) for group in texts}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"groups of {sorted(sizes)} responses; every prompt needs as many")
    groups = (len(prompts), sizes.pop())
    flat = [text for group in texts for text in group]
    rows = (
        [list(range(len(text))) for text in flat]
        if tokenizer is None
        else [tokenizer(text, add_special_tokens=False)["input_ids"] for text in flat]
    )
    ids, mask = padded(rows, groups[1])
    if tokenizer is not None:
        return of_tokens(prompts, ids, mask, tokenizer)
    return Responses(
        prompts=tuple(prompts),
        texts=_groups(flat, groups[1]),
        response_mask=mask,
        char_spans=torch.stack([ids, ids + 1], dim=-1) * mask.unsqueeze(-1),
    )


def padded(
    rows: Sequence[Sequence[int]], group_size: int
) -> tuple[Int[Tensor, "P G T"], Bool[Tensor, "P G T"]]:
    """Rows of token ids in groups, right-padded, and which of the tokens are theirs."""
    ids = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[index, : len(row)] = True
    groups = (len(rows) // group_size, group_size)
    return ids.unflatten(0, groups), mask.unflatten(0, groups)


def _placed(spans: Sequence[Sequence[Span]], mask: Bool[Tensor, "B T"]) -> Int[Tensor, "B T 2"]:
    """The span of each token at the token's own place; (0, 0) elsewhere."""
    chars = torch.zeros(*mask.shape, 2, dtype=torch.long, device=mask.device)
    flat = [span for row in spans for span in row]
    if flat:
        chars[mask] = torch.tensor(flat, device=mask.device)
    return chars


def _groups(texts: Sequence[str], size: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(texts[start : start + size]) for start in range(0, len(texts), size))


def _check(found: int, wanted: int, what: str) -> None:
    if found != wanted:
        raise ValueError(f"{found} {what} for {wanted} prompts; every prompt needs its own")
