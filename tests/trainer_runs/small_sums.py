"""A model of random weights whose tokens are those of small sums, and rows of data, as files."""

import json

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rlcredit.types import Randomness

CHAT = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
NAMES = ["<end>", "<unknown>", " #### 1", " #### 2", " 1", " 2", " so", " so."]
ANSWERS = ("1", "2")


def save_model(folder):
    words = Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(NAMES)}, "<unknown>")
    )
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r" #### \d| \w+\.?"), behavior="isolated")
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<end>", pad_token="<end>", unk_token="<unknown>"
    )
    tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(NAMES),
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
                weight.normal_(std=0.1, generator=generator)
    model.save_pretrained(folder)


def row(number):
    """A question that ends with its answer, as SkyRL's environment gsm8k and slime read it."""
    answer = ANSWERS[number % 2]
    return {
        "prompt": [{"role": "user", "content": " so" * (1 + number // 2) + f" {answer}"}],
        "env_class": "gsm8k",
        "reward_spec": {"method": "rule", "ground_truth": answer},
        "label": answer,
    }


def save_rows(path, count, *, chats=True):
    rows = [row(number) for number in range(count)]
    if not chats:
        rows = [made | {"prompt": made["prompt"][0]["content"]} for made in rows]
    path.write_text("".join(json.dumps(made) + "\n" for made in rows))
