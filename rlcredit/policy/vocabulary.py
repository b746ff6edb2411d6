"""A byte-level BPE tokenizer, trained on the task's own texts."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, SEPARATOR = "<pad>", "<end>", "<sep>"
PAD_ID, END_ID, SEPARATOR_ID = range(3)


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, context: int, whole: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A tokenizer whose encoding of a prompt ends with a separator.

    A word is one token wherever it stands, at the head of a text too: a space is put in front of
    every text, and taken away when it is decoded. All bytes are in the vocabulary, so every text
    can be encoded. The same texts give the same tokenizer.

    Tokens that no training text is encoded with, most of them steps on the way to a longer one, are
    left out: a policy would have to learn never to write them, and forget it again under
    reinforcement learning.

    Args:
        texts: What it is trained on.
        vocab_size: At most so many tokens, before unused ones are left out.
        context: Longest sequence of the model, in tokens.
        whole: Strings that are one token wherever they stand (the tags of candidates).

    Raises:
        ValueError: If ``vocab_size`` has no room for the bytes and the special tokens.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, END, SEPARATOR]
    smallest = len(alphabet) + len(special)
    if vocab_size < smallest:
        raise ValueError(
            f"policy.vocab_size={vocab_size}, but the bytes and the special tokens alone are "
            f"{smallest}; use more (2048 suits the generated data)"
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=special,
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    texts = [_without(text, whole) for text in texts]
    bpe.train_from_iterator(texts, trainer)
    bpe.model = _used(bpe, texts)
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


def _without(text: str, whole: Sequence[str]) -> str:
    for each in whole:
        text = text.replace(each, "\n")
    return text


def _used(bpe: Tokenizer, texts: list[str]) -> models.BPE:
    """The model without the tokens that its training texts do not need; they encode as before.

    A word that is one token is looked up whole, so the merges that lead to it are not needed; those
    of a word of several tokens are.
    """
    trained: dict[str, Any] = json.loads(bpe.to_str())["model"]
    merges: list[tuple[str, str]] = [(left, right) for left, right in trained["merges"]]
    halves: dict[str, set[str]] = {}
    for left, right in merges:
        halves.setdefault(left + right, set()).update((left, right))
    needed: set[str] = {token for token in trained["vocab"] if token not in halves}
    for word in {word for text in texts for word, _ in bpe.pre_tokenizer.pre_tokenize_str(text)}:
        tokens = [token.value for token in bpe.model.tokenize(word)]
        needed.update(tokens)
        waiting = tokens if len(tokens) > 1 else []
        while waiting:
            found = halves.get(waiting.pop(), set())
            needed |= found
            waiting += found
    kept = sorted(needed, key=lambda token: trained["vocab"][token])
    return models.BPE(
        vocab={token: index for index, token in enumerate(kept)},
        merges=[pair for pair in merges if {*pair, "".join(pair)} <= needed],
        ignore_merges=True,
    )
