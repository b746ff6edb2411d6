"""A reward model of transformers: what it reads, in which batches, and what is refused."""

import json
import logging
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)

from rlcredit.commands.digests import run_identity
from rlcredit.estimators import Max
from rlcredit.evaluation.graders import OwnGrader, Surroundings, grader_of
from rlcredit.rewards import RewardModel
from rlcredit.rewards.base import scores_parts
from rlcredit.rewards.caches import Cache
from rlcredit.tasks import ESCI
from rlcredit.types import Counts, Prompt
from tests.composing import RUNS

WORDS = ("find", "tent", "red", "boat", "be", "short", "user", "assistant", ":", "blue")
PROMPTS = [
    Prompt(prompt_id="q0", text="find tent", query="tent", relevance={}),
    Prompt(prompt_id="q1", text="find boat", query="boat", relevance={}, instruction="be short"),
]
TEMPLATE = (
    "{% for turn in messages %}{{ turn.role }} : {{ turn.content }} {% endfor %}"
    "{{ strftime_now('%Y') }}"
)


def save_tokenizer(folder, *, template=None, pad=True):
    vocabulary = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        chat_template=template,
        model_input_names=["input_ids", *(["token_type_ids"] if pad else []), "attention_mask"],
        **({"pad_token": "[PAD]"} if pad else {}),
    ).save_pretrained(folder)


def bert(num_labels=1):
    return BertConfig(
        vocab_size=14,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        num_labels=num_labels,
        pad_token_id=0,
    )


def seeded(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """An encoder with pair encoding: its folder, and the model itself."""
    folder = tmp_path_factory.mktemp("classifier")
    model = seeded(lambda: BertForSequenceClassification(bert()))
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder, model


@pytest.fixture(scope="module")
def chat(tmp_path_factory):
    """A decoder with a chat template and without a padding token."""
    folder = tmp_path_factory.mktemp("chat")
    config = LlamaConfig(
        vocab_size=14,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        pad_token_id=None,
    )
    model = seeded(lambda: LlamaForSequenceClassification(config))
    model.save_pretrained(folder)
    save_tokenizer(folder, template=TEMPLATE, pad=False)
    return folder, model


def settings(folder, **more):
    return RewardModel(name=str(folder), utility=Max(), device="cpu", **more)


def test_a_prompt_and_a_text_are_a_pair_to_the_model(classifier):
    folder, model = classifier
    reward = settings(folder).bind()
    values = reward(PROMPTS, ["red tent", "blue boat red"])
    ids = {name: i + 4 for i, name in enumerate(WORDS)}
    for value, told, text in zip(
        values, ("find tent", "be short find boat"), ("red tent", "blue boat red"), strict=True
    ):
        first = [2, *(ids[word] for word in told.split()), 3]
        second = [*(ids[word] for word in text.split()), 3]
        kinds = [0] * len(first) + [1] * len(second)
        with torch.no_grad():
            expected = model(
                input_ids=torch.tensor([first + second]), token_type_ids=torch.tensor([kinds])
            ).logits
        assert float(value) == pytest.approx(float(expected), abs=1e-6)
    assert values.dtype == torch.float32
    assert values.unique().numel() == 2


def test_a_chat_template_writes_two_turns_and_knows_no_clock(chat):
    folder, model = chat
    reward = settings(folder).bind()
    value = reward(PROMPTS[1:], ["red boat"])
    ids = {name: i + 4 for i, name in enumerate(WORDS)}
    turns = "user : be short find boat assistant : red boat 2026"
    row = torch.tensor([[ids.get(word, 1) for word in turns.split()]])
    with torch.no_grad():
        assert float(value) == pytest.approx(float(model(input_ids=row).logits), abs=1e-6)
    several = reward([PROMPTS[0]] * 3, ["red", "tent", "boat"])  # without a padding token
    assert several.unique().numel() == 3


def test_a_text_has_the_same_bits_in_every_batch(classifier):
    folder, _ = classifier
    texts = [" ".join(WORDS[i % 10] for i in range(n)) for n in (1, 2, 2, 3, 9, 9, 9, 20)]
    texts = [f"{text} {WORDS[n]}" for n, text in enumerate(texts)]
    together = settings(folder).bind()([PROMPTS[0]] * 8, texts)
    for size in (1, 2):
        again = settings(folder, batch_size=size, cache=Cache(memory_mb=0)).bind()
        assert torch.equal(again([PROMPTS[0]] * 8, texts), together)
        alone = [again([PROMPTS[0]], [text]) for text in texts]
        assert torch.equal(torch.cat(alone), together)


def test_what_is_known_is_not_computed_again(classifier):
    folder, _ = classifier
    reward = settings(folder).bind()
    first = reward([PROMPTS[0]] * 3, ["red", "tent", "red"])
    assert reward.counts == Counts(asked=3, distinct=2)
    reward.model.classifier.weight.data.add_(1.0)
    assert torch.equal(reward([PROMPTS[0]] * 2, ["red", "tent"]), first[:2])
    assert reward.counts.remembered == 2
    assert reward([PROMPTS[1]], ["red"]) != first[0]


def test_a_text_that_is_cut_is_counted_and_said_once(classifier, caplog):
    folder, _ = classifier
    reward = settings(folder, max_length=8).bind()
    with caplog.at_level(logging.WARNING):
        values = reward([PROMPTS[0]] * 3, ["red", "red tent boat blue find", "red tent boat blue"])
    assert reward.counts.truncated == 2
    assert values[1] == values[2]  # they differ behind the cut
    reward([PROMPTS[0]], ["boat boat boat boat boat boat"])
    assert reward.counts.truncated == 3
    said = [record.getMessage() for record in caplog.records if "longer" in record.getMessage()]
    assert len(said) == 1
    assert "the 8 tokens that the reward model reads" in said[0]
    assert "'red tent boat blue find'" in said[0]


def test_a_logit_that_is_no_number_ends_it(classifier):
    reward = settings(classifier[0]).bind()
    reward.model.classifier.bias.data.fill_(torch.nan)
    with pytest.raises(RuntimeError, match="gave nan for 'red'"):
        reward([PROMPTS[0]], ["red"])


def test_the_weights_are_part_of_a_run(classifier, tmp_path):
    folder, model = classifier
    with RUNS.hydra():
        cfg = RUNS(["reward=model", f"reward.name={folder}"])
        before = run_identity(cfg)["reward"]
    assert before["content"] == [*settings(folder).content()]
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    assert settings(tmp_path).content() == settings(folder).content()
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.2}))
    assert settings(tmp_path).content() != settings(folder).content()


def test_it_grades_by_its_mean_and_scores_parts(classifier, tmp_path):
    folder, _ = classifier
    task = ESCI(max_train=4, max_validation=4, max_test=4).load()
    around = Surroundings(retrievers={}, cache=tmp_path, failures=tmp_path)
    graded = grader_of(settings(folder), task, around)
    assert type(graded) is OwnGrader
    assert str(folder) in dict(graded.rows)["reward"]
    assert scores_parts(graded.reward)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: BertForSequenceClassification(bert(num_labels=2)),
            "it gives 2 numbers for a text",
        ),
        (lambda: BertModel(bert()), "it has no weights classifier.bias, classifier.weight"),
    ],
)
def test_models_that_do_not_give_one_number_are_refused(tmp_path, make, said):
    seeded(make).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=said):
        settings(tmp_path).bind()


def test_pickled_weights_are_not_read(classifier, tmp_path):
    _, model = classifier
    model.config.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"no reward model that can be used.*safetensors"):
        settings(tmp_path).bind()


def test_folders_that_hold_nothing_and_damaged_weights_are_refused(classifier, tmp_path):
    with pytest.raises(ValueError, match="no reward model that can be used"):
        settings(tmp_path).bind()
    with pytest.raises(ValueError, match="no reward model that can be used"):
        settings(tmp_path / "nowhere" / "at" / "all").content()
    for path in classifier[0].iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(
            content[:900] if path.suffix == ".safetensors" else content
        )
    with pytest.raises(ValueError, match="no reward model that can be used"):
        settings(tmp_path).bind()


def test_a_template_that_refuses_a_turn_says_so(chat):
    reward = settings(chat[0]).bind()
    reward.tokenizer.chat_template = "{{ raise_exception('no users here') }}"
    with pytest.raises(ValueError, match="refuses a user's and an assistant's turn: no users here"):
        reward([PROMPTS[0]], ["red"])


@pytest.mark.parametrize("name", ["max_length", "batch_size"])
def test_settings_out_of_range(name):
    with pytest.raises(ValueError, match=rf"reward\.{name}=0, but it is 1 or more"):
        replace(settings("a/model"), **{name: 0})
