"""A model of random weights whose tokens are words, and rows of data, as files."""

import pandas as pd
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from verl_own_credit import ROWS

from rlcredit.types import Randomness

WORDS = ("red", "steel", "quiet", "light", "soft", "waterproof", "warm")
ASKED = ("a", "tent", "for", "two", "lamp", "the", "office", "chair")
CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def save_model(folder):
    names = ["<end>", "<unknown>", ",", *WORDS, *(f" {word}" for word in (*WORDS, *ASKED)), "a"]
    words = Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(names)}, "<unknown>")
    )
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?\w+|,"), behavior="isolated")
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<unknown>"
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(names),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=512,
        eos_token_id=0,
        bos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    generator = Randomness(seed=0, step=0).generator("weights")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3, generator=generator)
    model.save_pretrained(folder)


def save_rows(path):
    rows = [
        {
            "data_source": "wanted",
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "reward_model": {"style": "rule", "ground_truth": ""},
            "extra_info": {"index": number, "wanted": row["wanted"]},
        }
        for number, row in enumerate(ROWS * 4)
    ]
    pd.DataFrame(rows).to_parquet(path)
