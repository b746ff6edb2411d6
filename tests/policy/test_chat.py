"""Prompts as chat templates make them: nothing left out, nothing from the clock, known ends."""

from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, processors
from transformers import PreTrainedTokenizerFast

from rlcredit.identity import digest, identify
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.hf import HF
from rlcredit.rollout.sampled import Sampled
from rlcredit.text.response import TextRules
from rlcredit.types import Prompt
from tests.policy.toy import toy_policy

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("assistant\n{%", "assistant\n<think>\n{%")
USER_ALONE = "{% for m in messages if m.role == 'user' %}user: {{ m.content | trim }};{% endfor %}"
TENT = Prompt(
    prompt_id="tent", text="a tent for two", query="", relevance={}, instruction="be brief"
)


def chat(template: str | None, **settings: object) -> CausalLM:
    """A policy with a template, and tokens for the marks of turns that are no EOS of it."""
    made = toy_policy(steps=0)
    marks = [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")]
    made.tokenizer.add_tokens(marks)
    made.model.resize_token_embeddings(len(made.tokenizer))
    made.tokenizer.chat_template = template
    return CausalLM(model=made.model, tokenizer=made.tokenizer, origin="toy", **settings)


def read(policy: CausalLM, prompt: Prompt = TENT) -> str:
    return policy.tokenizer.decode(policy.encode([prompt])[0][0].tolist())


def id_of(policy: CausalLM, token: str) -> int:
    return policy.tokenizer.get_vocab()[token]


@pytest.mark.parametrize("gap", ["", " ", "\n"])
def test_the_token_behind_an_assistant_turn_ends_a_response(gap: str):
    policy = chat(CHATML.replace("<|im_end|>", f"{gap}<|im_end|>"))
    assert policy.eos_ids == {policy.tokenizer.eos_token_id, id_of(policy, "<|im_end|>")}


@pytest.mark.parametrize(
    "template",
    [
        None,
        USER_ALONE,
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
        "{% for m in messages %}{% if m.role == 'assistant' %}{{ raise_exception('no') }}"
        "{% endif %}{{ m.content }}<|im_end|>{% endfor %}",
    ],
)
def test_a_template_that_ends_no_assistant_turn_by_a_token_of_its_own_adds_no_end(template):
    policy = chat(template)
    assert policy.eos_ids == {policy.tokenizer.eos_token_id}


def test_stop_tokens_end_a_response_and_each_must_be_one_token():
    policy = chat(None, stop_tokens=("<|im_start|>", "<sep>"))
    assert policy.eos_ids == {
        policy.tokenizer.eos_token_id,
        policy.tokenizer.sep_token_id,
        id_of(policy, "<|im_start|>"),
    }
    with pytest.raises(ValueError, match=r"policy\.stop_tokens has '<\|eot\|>', which is no token"):
        chat(None, stop_tokens=["<|eot|>"])


def test_a_template_that_asks_for_the_date_is_told_the_policy_s_own():
    template = "{{ strftime_now('%d %b %Y') }}:" + CHATML
    assert read(chat(template)).startswith("01 Jan 2026:")
    moved = chat(template, today=HF(name="x", date="2024-07-26").today)
    assert read(moved).startswith("26 Jul 2024:")


def test_the_date_is_part_of_a_run_and_must_be_one():
    assert digest(identify(HF(name="x"))) != digest(identify(HF(name="x", date="2024-07-26")))
    with pytest.raises(ValueError, match=r"policy\.date=tomorrow is no date"):
        HF(name="x", date="tomorrow")


def test_template_variables_may_be_words_and_numbers():
    template = "{{ effort }} {{ budget + 1 }} {{ date_string }}:" + CHATML
    options = {"effort": "low", "budget": 3, "date_string": "26 Jul 2024"}
    assert read(chat(template, chat_options=options)).startswith("low 4 26 Jul 2024:")


@pytest.mark.parametrize(
    "template",
    [
        USER_ALONE,
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}",
    ],
)
def test_an_instruction_that_a_template_drops_or_refuses_stands_before_the_user_s_text(template):
    policy = chat(template)
    assert read(policy) == "user: be brief\n\na tent for two;"
    assert read(policy, replace(TENT, instruction="")) == "user: a tent for two;"
    assert read(chat(CHATML)).split("<|im_end|>")[0].endswith("system\nbe brief")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}:{% endfor %}",
        "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}answer:",
    ],
)
def test_a_template_that_leaves_the_user_s_text_out_is_refused(template):
    with pytest.raises(ValueError, match=r"template of toy refuses prompt 'tent': a part of the"):
        chat(template).encode([TENT])


def closing(tokenizer: PreTrainedTokenizerFast, *ends: str) -> None:
    pairs = [(end, tokenizer.convert_tokens_to_ids(end)) for end in ends]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(["$A", *ends]), special_tokens=pairs
    )


def test_an_end_that_a_tokenizer_adds_to_every_text_is_no_part_of_a_prompt():
    policy = chat(None)
    plain = policy.tokenizer(TENT.text, add_special_tokens=False)["input_ids"]
    closing(policy.tokenizer, "<end>")
    assert policy.tokenizer(TENT.text)["input_ids"] == [*plain, policy.tokenizer.eos_token_id]
    assert policy.encode([TENT])[0].tolist() == [plain]
    assert policy.lengths([TENT]) == [len(plain)]
    closing(policy.tokenizer, "<sep>", "<end>")
    assert policy.encode([TENT])[0].tolist() == [[*plain, policy.tokenizer.sep_token_id]]


def test_an_end_that_a_chat_template_writes_stays():
    policy = chat("{% for m in messages %}{{ m.content }}<end>{% endfor %}")
    assert policy.encode([TENT])[0][0, -1] == policy.tokenizer.eos_token_id


def responded(policy: CausalLM, *texts: str) -> tuple[list[str], list[list[str]]]:
    """The texts of responses as they are recorded, and the characters of their tokens."""
    rows = [policy.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    rows = [[*row, policy.tokenizer.eos_token_id] for row in rows]
    sampled = Sampled.empty(len(rows), max(map(len, rows)), policy, torch.device("cpu"))
    for index, row in enumerate(rows):
        sampled.ids[index, : len(row)] = torch.tensor(row)
        sampled.mask[index, : len(row)] = True
    sampled.finished[:] = True
    ids, mask = policy.encode([TENT])
    rollouts = sampled.rollouts(policy, [TENT], ids, mask, temperature=1.0)
    pieces = [
        [text[start:end] for (start, end), kept in zip(spans, used, strict=True) if kept]
        for text, spans, used in zip(
            rollouts.texts[0],
            rollouts.char_spans[0].tolist(),
            rollouts.response_mask[0].tolist(),
            strict=True,
        )
    ]
    return list(rollouts.texts[0]), pieces


def test_a_thought_that_the_prompt_opened_is_not_scored_and_no_token_moves():
    rules = TextRules(num_candidates=1)
    thoughts = "maybe a boat, a stove", "<c1>boat</c1></think><c1>tent, red</c1>"
    written = (f"{thoughts[0]}</think>tent, red", *thoughts)
    texts, pieces = responded(chat(THINKING), *written)
    scored = [TextRules().scored_span(text).of(text) for text in texts]
    assert scored == ["tent, red", "", "<c1>tent, red</c1>"]
    assert ["".join(row) for row in pieces] == list(written)
    assert [span.of(texts[2]) for span in rules.candidate_spans(texts[2])] == ["tent, red"]
    texts, pieces = responded(chat(CHATML), *thoughts)
    assert texts == list(thoughts)
    assert ["".join(row) for row in pieces] == list(thoughts)


def test_a_thought_that_the_prompt_closed_is_none():
    closed = THINKING.replace("<think>\n", "<think>\n\n</think>\n\n")
    texts, _ = responded(chat(closed), "tent, red")
    assert texts == ["tent, red"]
