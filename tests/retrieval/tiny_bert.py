"""A tiny BERT whose vocabulary is the catalogue's."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tests.retrieval.catalogue import WORDS


def save_trunk(folder: Path, *, layers: int = 2) -> None:
    """Random weights, nothing of sentence-transformers; without layers, words without places."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, ",", "query", "passage", ":"]
    vocabulary = {name: i for i, name in enumerate(names)}
    bpe = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(names),
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=40,
        )
        trunk = BertModel(config)
        if not layers:
            trunk.embeddings.position_embeddings.weight.data.zero_()
        trunk.save_pretrained(folder)
