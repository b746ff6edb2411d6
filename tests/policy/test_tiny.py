"""The policy made from scratch: its words, its warm start, its cache."""

import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from rlcredit.policy.base import PolicySource
from rlcredit.policy.causal_lm import CausalLM
from rlcredit.policy.kept import _locked
from rlcredit.policy.tiny import Tiny
from rlcredit.policy.vocabulary import Alphabet, reads, train_tokenizer
from rlcredit.policy.warm_start import WarmStart
from rlcredit.rollout.hf import HFRollout
from rlcredit.types import Randomness
from tests.full_disk import full_disk
from tests.policy.toy import WORDS, toy_policy, toy_prompts, toy_task

SMALL = Tiny(
    hidden_size=32,
    num_layers=1,
    num_heads=2,
    head_dim=16,
    vocab_size=400,
    warm_start=WarmStart(steps=2),
)


def load(
    source: Tiny, cache: Path, *, seed: int = 0, digest: str = "toy", say: Callable = lambda x: None
) -> CausalLM:
    return source.load(
        toy_task(digest), seed=seed, cache=cache, device=torch.device("cpu"), say=say
    )


def weights(policy: CausalLM) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in policy.model.parameters()])


def test_the_default_has_the_architecture_that_it_says(tmp_path: Path):
    said: list[str] = []
    policy = load(Tiny(vocab_size=300, warm_start=WarmStart(steps=0)), tmp_path, say=said.append)
    assert isinstance(Tiny(), PolicySource)
    model = policy.model
    embedding, layers = 96 * len(policy.tokenizer), 3
    attention = 96 * 96 * 2 + 2 * 96 * 32 + 2 * 32
    assert model.num_parameters() == (embedding + layers * (attention + 3 * 96 * 288 + 2 * 96) + 96)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    matrices = [p for p in model.parameters() if p.dim() == 2]
    assert all(0.07 < float(p.detach().std()) < 0.09 for p in matrices)
    assert "0 supervised steps" in said[0]
    assert "made from scratch (no pretraining)" in said[-1]


def test_demonstrations_teach_the_format_and_the_ends():
    policy = toy_policy(steps=200)
    task = toy_task()
    rollouts = HFRollout()(policy, task.test, group_size=8, randomness=Randomness(seed=0, step=0))
    phrases = [text.split(", ") for group in rollouts.texts for text in group]
    known = [phrase in WORDS for row in phrases for phrase in row[1:]]
    assert bool(rollouts.finished.all())
    assert sum(known) / len(known) > 0.9
    assert sum(len(row) == 4 for row in phrases) / len(phrases) > 0.7


def test_the_same_seed_makes_the_same_weights_and_another_seed_others(tmp_path: Path):
    first = load(SMALL, tmp_path / "a")
    torch.manual_seed(99)
    state = torch.get_rng_state()
    again = load(SMALL, tmp_path / "b")
    assert torch.equal(weights(first), weights(again))
    assert torch.equal(torch.get_rng_state(), state), "the global stream must be left alone"
    assert not torch.equal(weights(first), weights(load(SMALL, tmp_path / "a", seed=1)))


def test_a_kept_policy_is_found_by_what_it_depends_on(tmp_path: Path):
    said: list[str] = []
    first = load(SMALL, tmp_path, say=said.append)
    assert not any("kept from before" in line for line in said)
    again = load(SMALL, tmp_path, say=said.append)
    assert "kept from before" in said[-2]
    assert torch.equal(weights(first), weights(again))
    assert first.description == again.description
    (folder,) = (tmp_path / "policies").iterdir()
    assert sorted(os.listdir(folder)) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "warm_start.json",
    ]
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert modes == {(folder / "config.json").stat().st_mode}  # none is its maker's alone
    assert folder.stat().st_mode == folder.parent.stat().st_mode
    assert json.loads((folder / "warm_start.json").read_text())["settings"]["num_layers"] == 1
    load(SMALL, tmp_path, seed=1)
    load(SMALL, tmp_path, digest="another task")
    load(replace(SMALL, initializer_range=0.02), tmp_path)
    load(replace(SMALL, warm_start=WarmStart(steps=3)), tmp_path)
    assert len(list((tmp_path / "policies").iterdir())) == 5


def test_a_policy_that_could_not_be_finished_leaves_nothing_behind(tmp_path: Path):
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(SMALL, tmp_path, say=stop)
    assert not list((tmp_path / "policies").iterdir())
    assert load(SMALL, tmp_path).model.num_parameters() > 0


def test_who_needs_a_policy_that_is_being_made_waits_for_it(tmp_path: Path):
    waits = Event()
    found: list[int] = []
    waiting: list[Future[None]] = []

    def wait_for(lock: Path) -> None:
        with _locked(lock, what="warm start", say=lambda _: waits.set()):
            found.append(len(list((tmp_path / "policies").iterdir())))

    def say(line: str) -> None:
        if not waiting:  # the lock is held from before the first line is said
            (lock,) = (tmp_path / "locks").iterdir()
            waiting.append(pool.submit(wait_for, lock))
            assert waits.wait(timeout=60)
            assert not found

    said: list[str] = []
    with ThreadPoolExecutor() as pool:
        first = load(SMALL, tmp_path, say=say)
        waiting[0].result()
    assert found == [1]
    again = load(SMALL, tmp_path, say=said.append)
    assert "kept from before" in said[0]
    assert torch.equal(weights(first), weights(again))


def test_a_damaged_kept_policy_is_named_with_the_remedy(tmp_path: Path):
    load(SMALL, tmp_path)
    (folder,) = (tmp_path / "policies").iterdir()
    model = folder / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ValueError, match=rf"{folder.name} is damaged.*delete that folder"):
        load(SMALL, tmp_path)


def test_a_learning_rate_too_high_stops_the_warm_start(tmp_path: Path):
    wild = replace(SMALL, warm_start=WarmStart(steps=30, lr=1e30, max_grad_norm=1e30))
    with pytest.raises(FloatingPointError, match=r"lower policy\.warm_start\.lr"):
        load(wild, tmp_path)


def test_the_learning_rate_rises_then_falls_to_a_tenth():
    schedule = WarmStart(steps=400, lr=2.0, num_warmup_steps=20)
    assert schedule.learning_rate(0) == pytest.approx(0.1)
    assert schedule.learning_rate(9) == pytest.approx(1.0)
    assert schedule.learning_rate(20) == pytest.approx(2.0)
    assert schedule.learning_rate(210) == pytest.approx(1.1)
    assert schedule.learning_rate(399) == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Tiny(num_heads=3, num_kv_heads=2), "multiple of policy.num_kv_heads=2"),
        (lambda: Tiny(head_dim=31), "must be even"),
        (lambda: Tiny(num_layers=0), "below 1"),
        (lambda: Tiny(initializer_range=0.0), "initializer_range=0.0"),
        (lambda: WarmStart(steps=-1), "steps=-1"),
        (lambda: WarmStart(lr=0.0), "lr=0.0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(make: Callable, said: str):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_cache_that_cannot_be_written_is_named_before_the_policy_is_taught(tmp_path: Path):
    (tmp_path / "file").write_text("")
    said: list[str] = []
    with pytest.raises(OSError, match=r"cannot be kept in .*file/policies .*set cache=<a folder"):
        load(SMALL, tmp_path / "file", say=said.append)
    assert said == []


def test_a_disk_that_is_full_while_the_policy_is_kept_leaves_nothing_half_done(tmp_path: Path):
    with full_disk(20_000), pytest.raises(OSError, match=r"cannot be kept in .*make room there"):
        load(SMALL, tmp_path)
    assert [*(tmp_path / "policies").iterdir()] == []
    load(SMALL, tmp_path)


def test_a_hidden_document_gives_the_tokenizer_no_token(tmp_path: Path):
    task = toy_task()
    strange = replace(task.documents, texts=("zebra " * 50, *task.documents.texts[1:]))
    empty = replace(task.documents, texts=("", *task.documents.texts[1:]))
    seen, hidden, absent = (
        SMALL.load(each, seed=0, cache=tmp_path / name, device=torch.device("cpu"), say=str)
        for name, each in (
            ("seen", replace(task, documents=strange)),
            ("hidden", replace(task, documents=strange, hidden=frozenset({"d0"}))),
            ("absent", replace(task, documents=empty)),
        )
    )
    vocabulary = hidden.tokenizer.get_vocab()
    assert vocabulary == absent.tokenizer.get_vocab()
    assert vocabulary != seen.tokenizer.get_vocab()


def test_a_tokenizer_is_the_same_for_the_same_texts_and_keeps_every_text():
    texts = ["light tent, tent for two, red tent's poles", "winter, winter boots, light boots"] * 3
    tokenizer = train_tokenizer(texts, alphabet=Alphabet.bytes, vocab_size=280, context=64)
    again = train_tokenizer(texts, alphabet=Alphabet.bytes, vocab_size=280, context=64)
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    assert 259 < len(tokenizer) <= 280
    for text in ("tent", "a tënt, 🙂", "", "two  spaces, \n a line"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer(text)["input_ids"] == [*ids, tokenizer.sep_token_id]


def byte_pairs(texts: list[str], vocab_size: int) -> Tokenizer:
    """The textbook tokenizer: every merge kept."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=["<pad>", "<end>", "<sep>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return bpe


@pytest.mark.parametrize("vocab_size", [270, 300, 330, 2048])
def test_only_tokens_that_no_training_text_needs_are_left_out(vocab_size: int):
    seen = [f"{prompt.text}, {word}" for prompt in toy_prompts() for word in WORDS]
    texts = [*seen, "lighter", "tents and waterproofing", "ab abc bc abcd"] * 2
    ours = train_tokenizer(texts, alphabet=Alphabet.bytes, vocab_size=vocab_size, context=64)
    textbook = byte_pairs(texts, vocab_size)
    for text in texts:
        assert ours.tokenize(text) == textbook.encode(text).tokens
    used = {token for text in texts for token in textbook.encode(text).tokens}
    assert used <= set(ours.get_vocab()) <= set(textbook.get_vocab())
    if vocab_size == 2048:
        singles = {token for token in textbook.get_vocab() if len(token) == 1}
        specials = {"<pad>", "<end>", "<sep>"}
        assert set(ours.get_vocab()) == used | singles | specials
        assert len(ours) < textbook.get_vocab_size() - 40


@pytest.mark.parametrize("alphabet", Alphabet)
def test_a_word_is_the_same_token_at_the_head_of_a_text_and_inside(alphabet: Alphabet):
    tokenizer = train_tokenizer(
        ["tent, tent, tent for two"] * 3, alphabet=alphabet, vocab_size=300, context=64
    )
    head, comma, inside = tokenizer("tent, tent", add_special_tokens=False)["input_ids"]
    assert head == inside != comma


@pytest.mark.parametrize(("alphabet", "said"), [("bytes", "200.*259"), ("characters", "6.*7")])
def test_a_vocabulary_without_room_for_its_alphabet_is_refused(alphabet: str, said: str):
    size = int(said.split(".")[0])
    with pytest.raises(ValueError, match=rf"policy\.vocab_size={said}; use more"):
        train_tokenizer(["tent"], alphabet=Alphabet(alphabet), vocab_size=size, context=64)


def test_tags_are_one_token_each_and_the_words_between_them_are_those_of_other_texts():
    said = "<c1>red tent</c1><c2>lamp</c2>"
    tags = ["<c1>", "</c1>", "<c2>", "</c2>"]
    texts = [said, "red  lamp"] * 2
    tokenizer = train_tokenizer(
        texts, alphabet=Alphabet.characters, vocab_size=300, context=64, whole=tags
    )
    assert sorted(tokenizer.get_vocab()) == sorted(
        ["<pad>", "<end>", "<sep>", "▁red", "▁tent", "▁lamp", *tags]
    )
    found = ["<c1>", "▁red", "▁tent", "</c1>", "<c2>", "▁lamp", "</c2>"]
    assert tokenizer.tokenize(said) == found


CHARACTERS = ["light tent, red tent's €5 lamp", "winter, winter boots", "room 217"] * 2


def test_no_id_of_an_alphabet_of_characters_is_without_a_training_text_that_needs_it():
    tokenizer = train_tokenizer(
        CHARACTERS, alphabet=Alphabet.characters, vocab_size=300, context=64
    )
    again = train_tokenizer(CHARACTERS, alphabet=Alphabet.characters, vocab_size=300, context=64)
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    used = {i for text in CHARACTERS for i in tokenizer(text)["input_ids"]}
    assert set(tokenizer.get_vocab().values()) == used | {0, 1, 2}
    for text in CHARACTERS:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert tokenizer(text)["input_ids"] == [*ids, tokenizer.sep_token_id]
        assert reads(tokenizer, text)


def test_digits_are_read_one_by_one_and_what_cannot_be_spelt_is_a_separator():
    tokenizer = train_tokenizer(
        CHARACTERS, alphabet=Alphabet.characters, vocab_size=300, context=64
    )
    assert tokenizer.tokenize("room 217") == ["▁room", "▁2", "1", "7"]
    assert reads(tokenizer, "room 2717,  lamp")
    assert not reads(tokenizer, "room 213")
    assert tokenizer.tokenize("red 中中 tent") == ["▁red", "<sep>", "▁tent"]


def test_a_policy_of_characters_writes_no_half_of_one_and_one_of_bytes_can(tmp_path: Path):
    task = toy_task()
    wild = replace(SMALL, warm_start=WarmStart(steps=0))
    for alphabet, halves in ((Alphabet.characters, False), (Alphabet.bytes, True)):
        policy = load(replace(wild, alphabet=alphabet), tmp_path)
        rollouts = HFRollout()(
            policy, task.train[:4], group_size=8, randomness=Randomness(seed=0, step=0)
        )
        texts = [text for group in rollouts.texts for text in group]
        assert any("\ufffd" in text for text in texts) == halves


def test_held_out_prompts_that_cannot_be_read_whole_are_counted(tmp_path: Path):
    task = toy_task()
    strange = replace(task.test[0], text="中 for two")
    said: list[str] = []
    SMALL.load(
        replace(task, test=(strange, *task.test[1:])),
        seed=0,
        cache=tmp_path,
        device=torch.device("cpu"),
        say=said.append,
    )
    assert "1 of 4 held-out prompts" in said[-1]
    assert "中 for two" in said[-1]
