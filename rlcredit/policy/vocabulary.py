"""A BPE tokenizer of characters or of bytes, trained on the task's own texts."""

import json
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum, auto
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, END, SEPARATOR = "<pad>", "<end>", "<sep>"
PAD_ID, END_ID, SEPARATOR_ID = range(3)

_SPACE = "▁"
"""What a space is called in a vocabulary of characters, as in SentencePiece's."""
_PIECES = (
    r"'s|'t|'re|'ve|'m|'ll|'d"
    rf"|{_SPACE}?\p{{L}}+|{_SPACE}?\p{{N}}|{_SPACE}?[^\s\p{{L}}\p{{N}}{_SPACE}]+"
    rf"|[\s{_SPACE}]+(?![^\s{_SPACE}])|[\s{_SPACE}]+"
)
"""Words and punctuation, each with the space before it, as GPT-2 parts them; digits one by one, so
that a number is read that no training text holds."""


class Alphabet(StrEnum):
    """What the shortest tokens are."""

    characters = auto()
    """No token is a part of a character, so whatever a policy writes is a text."""
    bytes = auto()
    """Every text can be read, and half a character be written."""


def train_tokenizer(
    texts: Iterable[str],
    *,
    alphabet: Alphabet,
    vocab_size: int,
    context: int,
    whole: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """A tokenizer whose encoding of a prompt ends with a separator.

    A word is one token wherever it stands, at the head of a text too: a space is put in front of
    every text, and taken away when it is decoded. The same texts give the same tokenizer.

    Tokens that no training text is encoded with, most of them steps on the way to a longer one, are
    left out: a policy would have to learn never to write them, and forget it again under
    reinforcement learning. Of ``bytes`` all stay, so that every text can be encoded. Of
    ``characters`` those stay that a training text is spelt with; what no token can spell is read
    as a separator (:func:`reads` tells).

    Args:
        texts: What it is trained on.
        alphabet: What the shortest tokens are.
        vocab_size: At most so many tokens, before unused ones are left out.
        context: Longest sequence of the model, in tokens.
        whole: Strings that are one token wherever they stand (the tags of candidates).

    Raises:
        ValueError: If ``vocab_size`` has no room for the alphabet and the special tokens.
    """
    bpe = _untrained(alphabet)
    texts = [piece for text in texts for piece in _between(text, whole, alphabet)]
    letters, special = _letters(bpe, alphabet, texts), [PAD, END, SEPARATOR]
    if vocab_size < (smallest := len(letters) + len(special)):
        raise ValueError(
            f"policy.vocab_size={vocab_size}, but the {alphabet} and the special tokens alone are "
            f"{smallest}; use more (2048 suits the generated data)"
        )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=letters,
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.model = _used(bpe, texts, letters if alphabet is Alphabet.bytes else None)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"$A {SEPARATOR}", special_tokens=[(SEPARATOR, SEPARATOR_ID)]
    )
    bpe.add_tokens([AddedToken(text, normalized=False) for text in whole])
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        sep_token=SEPARATOR,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def reads(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether the tokens of a text say all of it, white space aside."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    (said,) = tokenizer.batch_decode([ids], clean_up_tokenization_spaces=False)
    return said.split() == text.split()


def _untrained(alphabet: Alphabet) -> Tokenizer:
    """What parts texts into words before they are learnt, and puts tokens together again."""
    bpe = Tokenizer(models.BPE())
    if alphabet is Alphabet.bytes:
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        spelled = decoders.ByteLevel()
    else:
        bpe.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
        bpe.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme="always", split=False),
                pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            ]
        )
        spelled = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.Fuse()])
    bpe.decoder = decoders.Sequence([spelled, decoders.Strip(" ", 1, 0)])
    return bpe


def _letters(bpe: Tokenizer, alphabet: Alphabet, texts: Sequence[str]) -> list[str]:
    """What words are spelt with before anything is merged."""
    if alphabet is Alphabet.bytes:
        return sorted(pre_tokenizers.ByteLevel.alphabet())
    return sorted({letter for word in _words(bpe, texts) for letter in word})


def _words(bpe: Tokenizer, texts: Iterable[str]) -> set[str]:
    """The different words of texts, as they are looked up."""
    if bpe.normalizer is not None:
        texts = map(bpe.normalizer.normalize_str, texts)
    return {word for text in texts for word, _ in bpe.pre_tokenizer.pre_tokenize_str(text)}


def _between(text: str, whole: Sequence[str], alphabet: Alphabet) -> list[str]:
    """What is spelt of a text: all but the strings that are tokens already."""
    pieces = re.split("|".join(map(re.escape, whole)), text) if whole else [text]
    return ["\n".join(pieces)] if alphabet is Alphabet.bytes else pieces


def _used(bpe: Tokenizer, texts: list[str], kept: Sequence[str] | None) -> models.BPE:
    """The model without the tokens that its training texts do not need; they encode as before.

    A word that is one token is looked up whole, so the merges that lead to it are not needed; those
    of a word of several tokens are.

    Args:
        bpe: Trained.
        texts: What it was trained on.
        kept: Letters that stay in any case; None: none do, and others read as separators.
    """
    trained: dict[str, Any] = json.loads(bpe.to_str())["model"]
    merges: list[tuple[str, str]] = [(left, right) for left, right in trained["merges"]]
    halves: dict[str, set[str]] = {}
    for left, right in merges:
        halves.setdefault(left + right, set()).update((left, right))
    needed: set[str] = {PAD, END, SEPARATOR, *(kept or ())}
    for word in _words(bpe, texts):
        tokens = [token.value for token in bpe.model.tokenize(word)]
        needed.update(tokens)
        waiting = tokens if len(tokens) > 1 else []
        while waiting:
            found = halves.get(waiting.pop(), set())
            needed |= found
            waiting += found
    in_order = sorted(needed, key=lambda token: trained["vocab"][token])
    return models.BPE(
        vocab={token: index for index, token in enumerate(in_order)},
        merges=[pair for pair in merges if {*pair, "".join(pair)} <= needed],
        ignore_merges=True,
        unk_token=SEPARATOR if kept is None else None,
        fuse_unk=True,
    )
