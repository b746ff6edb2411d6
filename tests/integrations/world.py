"""A tokenizer, rows and a reward that the tests of other trainers' batches share."""

import torch

from rlcredit import Credit
from rlcredit.scoring.named import ESTIMATORS

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
FITTING = [name for name, made in ESTIMATORS.items() if made().smallest_group <= min(SIZES)]
"""Estimators that compare groups as small as these."""


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


def ours(credit, tokenizer, rows, groups, *, step=0, offset=0):
    """Our advantages of groups of one size, a row of tokens a response."""
    own = [[tokens(tokenizer, text) for text in texts] for texts in groups]
    width = max(len(ids) for group in own for ids in group)
    shape = (len(own), len(own[0]), width)
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    for p, group in enumerate(own):
        for g, written in enumerate(group):
            ids[p, g, : len(written)] = torch.tensor(written)
            mask[p, g, : len(written)] = True
    found = credit.of_tokens(rows, ids, mask, tokenizer, step=step, offset=offset)
    return [
        found.advantages[p, g, : len(written)].float()
        for p, group in enumerate(own)
        for g, written in enumerate(group)
    ]


def ours_of_all(credit, tokenizer, *, step=0):
    """Our advantages of the ragged groups above, those of four first."""
    cut = [texts[:size] for texts, size in zip(TEXTS, SIZES, strict=True)]
    return [
        *ours(credit, tokenizer, ROWS[:1], cut[:1], step=step),
        *ours(credit, tokenizer, ROWS[1:], cut[1:], step=step, offset=1),
    ]


class Counted(Credit):
    """A credit that keeps how many groups it was asked for, from which number, in which step."""

    def of_tokens(self, prompts, *batch, **settings):
        self.__dict__.setdefault("asked", []).append(
            (len(prompts), settings["offset"], settings["step"])
        )
        return super().of_tokens(prompts, *batch, **settings)
