"""A tokenizer, rows and a reward that the tests of other trainers' batches share."""

import torch

ROWS = [
    {"prompt": "a tent for two", "wanted": ["red", "steel"]},
    {"prompt": "a lamp for the office", "wanted": ["quiet", "light"]},
    {"prompt": "a chair", "wanted": ["soft"]},
]
TEXTS = [
    ["red, steel, soft", "light, red", "quiet", "steel, waterproof, quiet, red"],
    ["quiet, light", "soft, light, red", "steel, quiet", "red"],
    ["soft, red", "light, very warm", "quiet, soft", "soft"],
]
SIZES = (4, 3, 3)
"""Of ragged groups."""


def wanted(texts, rows):
    """How many of a row's words a text has, and a little for each of its letters."""
    return [
        sum(word in text for word in row["wanted"]) + len(set(text)) / 100
        for text, row in zip(texts, rows, strict=True)
    ]


def fails(texts, rows):
    raise OSError("the judge is away")


def tokens(tokenizer, text):
    """The tokens of a text and an end token."""
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def ours(credit, tokenizer, row, texts, *, step=0, offset=0):
    """Our advantages of one group, a row of tokens a response."""
    rows = [tokens(tokenizer, text) for text in texts]
    ids = torch.zeros(1, len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for index, row_ids in enumerate(rows):
        ids[0, index, : len(row_ids)] = torch.tensor(row_ids)
        mask[0, index, : len(row_ids)] = True
    found = credit.of_tokens([row], ids, mask, tokenizer, step=step, offset=offset)
    return [
        found.advantages[0, index, : len(row_ids)].float() for index, row_ids in enumerate(rows)
    ]
