"""A small catalogue with a vocabulary of its own."""

import torch

from rlcredit.retrieval.base import Documents

TEXT = (
    "red blue green tent boots jacket lamp bottle steel cotton wool trail marathon camping kitchen "
    "waterproof light breathable cushioned insulated soft café ultralight rugged vintage modern"
)
WORDS = TEXT.split()


def drawn(generator, low, high):
    count = int(torch.randint(low, high + 1, (1,), generator=generator))
    return [WORDS[i] for i in torch.randint(len(WORDS), (count,), generator=generator).tolist()]


def catalogue(num_documents=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Documents(
        ids=tuple(f"p{i:04d}" for i in torch.randperm(num_documents, generator=generator).tolist()),
        texts=tuple(" ".join(drawn(generator, 3, 14)) for _ in range(num_documents)),
    )


def phrase_lists(number, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [", ".join(drawn(generator, 1, 9)) for _ in range(number)]
