"""What must hold of every loaded set, generated or published."""

import torch

from rlcredit.tasks.published.cleaning import clean, contains_words
from rlcredit.text.response import segment_key

SPLITS = ("train", "validation", "test")


def sides(task):
    return [getattr(task, split) for split in SPLITS]


def test_no_query_and_no_customer_is_in_two_splits(any_task):
    ids = [prompt.prompt_id for side in sides(any_task) for prompt in side]
    assert len(set(ids)) == len(ids)
    if any_task.name == "esci":
        texts = [segment_key(prompt.text) for side in sides(any_task) for prompt in side]
        assert len(set(texts)) == len(texts)


def test_every_split_has_prompts_and_every_prompt_has_a_relevant_document(any_task):
    for side in sides(any_task):
        assert side
        for prompt in side:
            assert max(prompt.relevance.values()) == 3
            assert min(prompt.relevance.values()) >= 0


def test_pools_hold_all_relevant_documents_once_and_lie_in_the_catalogue(any_task):
    catalogue = set(any_task.documents.ids)
    size = {"esci": 100 if any_task.source == "generated" else 101, "hm": 100}[any_task.name]
    for side in sides(any_task):
        for prompt in side:
            assert len(set(prompt.pool)) == len(prompt.pool) == size
            assert set(prompt.relevance) <= set(prompt.pool) <= catalogue
            assert list(prompt.pool) == sorted(prompt.pool)


def test_no_prompt_names_a_relevant_document(any_task, any_titles):
    for side in sides(any_task):
        for prompt in side:
            for document in prompt.relevant:
                assert document.casefold() not in prompt.text.casefold()
                assert not contains_words(prompt.text, clean(any_titles[document]))
                assert prompt.query == prompt.text or any_task.name == "hm"


def test_the_teacher_knows_training_prompts_only(any_task):
    assert set(any_task.teacher.sources) == {prompt.prompt_id for prompt in any_task.train}


def test_loading_again_gives_the_same_prompts_and_demonstrations(any_task):
    prompt = any_task.train[0]
    first = any_task.teacher(prompt, torch.Generator().manual_seed(3))
    assert first == any_task.teacher(prompt, torch.Generator().manual_seed(3))
    others = {any_task.teacher(prompt, torch.Generator().manual_seed(k)) for k in range(20)}
    assert len(others) > 10


def test_documents_say_something_and_hold_no_markup(any_task):
    for text in any_task.documents.texts:
        assert text.strip() == text
        assert text
        assert "<br" not in text
        assert not any(ord(character) < 32 for character in text)


def test_what_is_relevant_to_a_held_out_prompt_is_hidden_in_published_data(any_task):
    if any_task.source == "generated":
        assert any_task.hidden == frozenset()
        return
    for prompt in (*any_task.validation, *any_task.test):
        assert prompt.relevant <= any_task.hidden
