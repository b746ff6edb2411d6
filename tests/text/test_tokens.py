import time
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from rlcredit.policy.vocabulary import Alphabet, train_tokenizer
from rlcredit.text.response import TextRules
from rlcredit.text.segmenters import Phrases
from rlcredit.text.spans import Span
from rlcredit.text.tokens import batch_char_spans, char_spans, decoded, segment_ids

STORIES = Path(__file__).parents[3] / "shared/data/stories260k"
CORPUS = ["red tent, hiking boots, cushioned", "waterproof jacket, café crème, €5 💡 lamp"] * 4
TEXTS = st.text(alphabet=[*"red tn,o \n", "é", "€", "💡", "中"], max_size=20)


@cache
def byte_level(*, prefix_space=True, trim=True):
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, trim_offsets=trim)
    strip = [decoders.Strip(" ", 1, 0)] * prefix_space
    bpe.decoder = decoders.Sequence([decoders.ByteLevel(), *strip])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<pad>", "<end>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        eos_token="<end>",
        clean_up_tokenization_spaces=False,
    )


@cache
def stories():
    if not STORIES.exists():
        pytest.skip(f"{STORIES} is not there")
    return AutoTokenizer.from_pretrained(STORIES)


@cache
def characters():
    return train_tokenizer(
        [*CORPUS, *"red tn,o \né€💡中"], alphabet=Alphabet.characters, vocab_size=120, context=64
    )


TOKENIZERS = {
    "characters": characters,
    "byte-level": byte_level,
    "byte-level untrimmed": lambda: byte_level(trim=False),
    "byte-level without prefix space": lambda: byte_level(prefix_space=False),
    "stories260k": stories,
}


@cache
def vocabulary(name):
    """Oracle: the bytes that each token stands for, from its name in the vocabulary."""
    tokenizer = TOKENIZERS[name]()
    table = {character: byte for byte, character in bytes_to_unicode().items()}
    special = set(tokenizer.all_special_ids)
    found = []
    for token, piece in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if token in special:
            found.append(b"")
        elif name == "characters":
            found.append(piece.replace("▁", " ").encode())
        elif name != "stories260k":
            found.append(bytes(table[character] for character in piece))
        elif piece.startswith("<0x"):
            found.append(bytes([int(piece[3:5], 16)]))
        else:
            found.append(piece.encode())
    return found


def oracle_spans(name, ids, text):
    """Characters that hold at least one byte of the token, counted byte by byte."""
    pieces = [vocabulary(name)[token] for token in ids]
    whole = b"".join(pieces)
    stripped = len(whole) - len(text.encode())
    assert whole[stripped:] == text.encode()
    owner = [i for i, character in enumerate(text) for _ in character.encode()]
    spans, at = [], -stripped
    for piece in pieces:
        touched = owner[max(at, 0) : max(at + len(piece), 0)]
        at += len(piece)
        spans.append(Span(touched[0], touched[-1] + 1) if touched else None)
    return spans


def check(name, ids):
    tokenizer = TOKENIZERS[name]()
    text = decoded(tokenizer, [ids])[0]
    spans = char_spans(tokenizer, ids, text)
    for span, oracle in zip(spans, oracle_spans(name, ids, text), strict=True):
        if oracle is None:
            assert span.start == span.end
        else:
            assert span == oracle


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None)
@given(text=TEXTS)
def test_spans_of_encoded_text_are_the_characters_of_each_tokens_bytes(name, text):
    tokenizer = TOKENIZERS[name]()
    check(name, tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None)
@given(data=st.data())
def test_spans_of_tokens_no_tokenizer_would_choose_are_right_too(name, data):
    tokenizer = TOKENIZERS[name]()
    text = data.draw(TEXTS)
    ids = tokenizer.encode(text, add_special_tokens=False)
    single = {written: token for token, written in enumerate(vocabulary(name))}
    split = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    spelled = []
    for token, spell in zip(ids, split, strict=True):
        letters = [bytes([byte]) for byte in vocabulary(name)[token]]
        known = spell and all(letter in single for letter in letters)
        spelled += [single[letter] for letter in letters] if known else [token]
    end = tokenizer.eos_token_id
    check(name, [*spelled[:3], end, *spelled[3:], end])


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None)
@given(data=st.data())
def test_spans_of_any_tokens_tile_the_text(name, data):
    tokenizer = TOKENIZERS[name]()
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=16))
    text = decoded(tokenizer, [ids])[0]
    spans = char_spans(tokenizer, ids, text)
    assert len(spans) == len(ids)
    reached = 0
    for span in spans:
        assert 0 <= span.start <= span.end <= len(text)
        assert span.start <= reached <= max(span.end, reached)
        assert span.end >= reached
        reached = span.end
    assert reached == len(text)


def test_a_character_split_over_tokens_belongs_to_each_of_them():
    tokenizer = byte_level(prefix_space=False)
    ids = [tokenizer.convert_tokens_to_ids(bytes_to_unicode()[byte]) for byte in "a中b".encode()]
    assert char_spans(tokenizer, ids, "a中b") == [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]


def test_special_tokens_get_empty_spans_where_they_stand():
    tokenizer = byte_level()
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    ids = tokenizer.encode("red", add_special_tokens=False)
    spans = char_spans(tokenizer, [pad, *ids, end], "red")
    assert spans[0] == (0, 0)
    assert spans[-1] == (3, 3)
    assert char_spans(tokenizer, [end], "") == [(0, 0)]
    assert char_spans(tokenizer, [], "") == []


def test_a_batch_has_the_spans_of_its_rows():
    tokenizer = byte_level()
    texts = ["red tent, boots", "", "café, €", " lamp"]
    batch = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    batch.append([tokenizer.convert_tokens_to_ids(c) for c in "red"])
    texts = decoded(tokenizer, batch)
    alone = [char_spans(tokenizer, ids, text) for ids, text in zip(batch, texts, strict=True)]
    assert batch_char_spans(tokenizer, batch, texts) == alone


def test_a_text_of_other_tokens_is_refused():
    tokenizer = byte_level()
    ids = tokenizer.encode("red tent", add_special_tokens=False)
    with pytest.raises(ValueError, match="'blue tent' is not the decoding of its tokens"):
        char_spans(tokenizer, ids, "blue tent")


def test_tags_that_are_read_are_text_where_a_tokenizer_calls_them_special():
    tokenizer = deepcopy(byte_level())
    tokenizer.add_tokens([AddedToken(tag, special=True) for tag in ("<think>", "</think>", "<x>")])
    end = tokenizer.eos_token_id
    ids = tokenizer.encode("<think>boat</think><x>tent", add_special_tokens=False)
    (text,) = decoded(tokenizer, [[*ids, end]])
    assert TextRules().scored_span(text).of(text) == "tent"
    pieces = [Span(*span).of(text) for span in char_spans(tokenizer, [*ids, end], text)]
    assert "".join(pieces) == text
    assert pieces[-1] == ""
    assert "<x>" not in text


@cache
def spelled_out(num_tokens):
    """A response in single bytes, which is not how a tokenizer writes it."""
    tokenizer = byte_level(prefix_space=False)
    letters = "café crème, €5 💡 lamp, red tent; ".encode() * (1 + num_tokens // 40)
    ids = [tokenizer.convert_tokens_to_ids(bytes_to_unicode()[b]) for b in letters[:num_tokens]]
    return ids, decoded(tokenizer, [ids])[0]


def test_spans_of_tokens_no_tokenizer_would_choose_take_time_in_proportion_to_their_number():
    tokenizer = byte_level(prefix_space=False)
    seconds = {}
    for num_tokens in (512, 2048):
        ids, text = spelled_out(num_tokens)
        assert tokenizer.encode(text, add_special_tokens=False) != ids
        took = []
        for _ in range(3):
            start = time.process_time()
            spans = char_spans(tokenizer, ids, text)
            took.append(time.process_time() - start)
        seconds[num_tokens] = min(took)
        assert len(spans) == num_tokens
        assert spans[-1].end == len(text)
    assert seconds[2048] < 8 * seconds[512]  # four times the tokens; a square would be sixteen


def test_eighty_responses_of_32_tokens_take_milliseconds():
    tokenizer = byte_level()
    ids = tokenizer.encode(" ".join(CORPUS), add_special_tokens=False)
    batch = [ids[i % 7 : i % 7 + 32] for i in range(80)]
    texts = decoded(tokenizer, batch)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        batch_char_spans(tokenizer, batch, texts)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.1


def test_a_token_belongs_to_the_segment_it_overlaps_most():
    spans = [Span(0, 3), Span(5, 10), Span(10, 12)]
    tokens = torch.tensor(
        [[0, 2], [2, 6], [3, 5], [4, 6], [2, 9], [8, 11], [9, 11], [12, 12], [5, 5]]
    )
    assert segment_ids(tokens, spans).tolist() == [0, 0, -1, 1, 1, 1, 1, -1, -1]
    assert segment_ids(tokens, []).tolist() == [-1] * 9


def test_tokens_of_a_phrase_list_fall_to_their_phrases_and_separators_to_none():
    tokenizer = byte_level()
    text = "red tent, boots, tent"
    ids = [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
    spans = torch.tensor(char_spans(tokenizer, ids, text))
    found = segment_ids(spans, Phrases()(text)).tolist()
    by_segment = [
        "".join(
            Span(*span).of(text) for span, i in zip(spans.tolist(), found, strict=True) if i == k
        )
        for k in range(3)
    ]
    assert [piece.strip() for piece in by_segment] == ["red tent", "boots", "tent"]
    assert found[-1] == -1
