"""A byte-level BPE tokenizer, trained on the task's own texts."""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

PAD, END, SEPARATOR = "<pad>", "<end>", "<sep>"
PAD_ID, END_ID, SEPARATOR_ID = range(3)


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int, context: int
) -> PreTrainedTokenizerFast:
    """A tokenizer whose encoding of a prompt ends with a separator.

    A word is one token wherever it stands, at the head of a text too: a space is put in front of
    every text, and taken away when it is decoded. All bytes are in the vocabulary, so every text
    can be encoded. The same texts give the same tokenizer.

    Args:
        texts: What it is trained on.
        vocab_size: At most so many tokens; fewer where the texts hold no more frequent pairs.
        context: Longest sequence of the model, in tokens.

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
    bpe.train_from_iterator(texts, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single=f"$A {SEPARATOR}", special_tokens=[(SEPARATOR, SEPARATOR_ID)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        eos_token=END,
        sep_token=SEPARATOR,
        padding_side="left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
