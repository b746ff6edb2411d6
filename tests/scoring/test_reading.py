"""Texts and token ids of anybody, as a scorer reads them."""

import pytest
import torch

from rlcredit.scoring.responses import of_texts, of_tokens
from rlcredit.types import Prompt
from tests.policy.toy import toy_policy

PROMPTS = [Prompt(prompt_id=f"q{n}", text="a tent", query="a tent", relevance={}) for n in range(2)]
TEXTS = [["red tent", "lamp"], ["", "a quiet lamp"]]


@pytest.fixture(scope="module")
def tokenizer():
    return toy_policy().tokenizer


def test_without_a_tokenizer_a_character_is_a_token():
    read = of_texts(PROMPTS, TEXTS)
    assert read.response_mask.sum(-1).tolist() == [[8, 4], [0, 12]]
    assert read.spans[0, 1].tolist() == [[n, n + 1] for n in range(4)] + [[0, 0]] * 8
    assert read.texts == (("red tent", "lamp"), ("", "a quiet lamp"))


def test_tokens_of_a_tokenizer_cover_their_texts(tokenizer):
    read = of_texts(PROMPTS, TEXTS, tokenizer)
    for p, group in enumerate(TEXTS):
        for g, text in enumerate(group):
            spans = read.spans[p, g][read.response_mask[p, g]].tolist()
            assert "".join(text[start:end] for start, end in spans) == text


def test_what_the_mask_leaves_out_is_not_read(tokenizer):
    whole = of_texts(PROMPTS[:1], [["red tent"]], tokenizer)
    ids = torch.tensor(tokenizer("red tent", add_special_tokens=False)["input_ids"])
    gap = torch.cat([torch.full((2,), 3), ids, torch.full((3,), 5)])
    mask = torch.zeros(len(gap), dtype=torch.bool)
    mask[2:-3] = True
    read = of_tokens(PROMPTS[:1], gap[None, None], mask[None, None], tokenizer)
    assert read.texts == (("red tent",),)
    assert torch.equal(read.spans[0, 0][mask], whole.spans[0, 0])
    assert not read.spans[0, 0][~mask].any()


def test_an_opened_thought_stands_in_front_and_belongs_to_no_token(tokenizer):
    ids = torch.tensor(tokenizer("red", add_special_tokens=False)["input_ids"])[None, None]
    mask = torch.ones_like(ids, dtype=torch.bool)
    read = of_tokens(PROMPTS[:1], ids, mask, tokenizer, opened=["<think>\n"])
    assert read.texts == (("<think>\nred",),)
    assert int(read.spans.min()) == len("<think>\n")
    assert int(read.spans.max()) == len("<think>\nred")


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ([["a", "b"], ["a"]], r"groups of \[1, 2\] responses"),
        ([[], []], r"groups of \[0\] responses"),
        ([["a"]], "1 groups of responses for 2 prompts"),
    ],
)
def test_ragged_groups_are_refused(texts, said):
    with pytest.raises(ValueError, match=said):
        of_texts(PROMPTS, texts)


def test_shapes_that_do_not_fit_are_refused(tokenizer):
    ids = torch.ones(2, 1, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="1 prompts for 2"):
        of_tokens(PROMPTS[:1], ids, ids.bool(), tokenizer)
    with pytest.raises(ValueError, match="1 thoughts"):
        of_tokens(PROMPTS, ids, ids.bool(), tokenizer, opened=["<think>"])
