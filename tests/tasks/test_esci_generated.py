import math
import re
import time

import numpy as np
import pytest
import torch
from searching import Search

from rlcredit.tasks import ESCI
from rlcredit.tasks.esci import generated_task
from rlcredit.tasks.generated import esci_catalogue
from rlcredit.tasks.generated.esci_prompts import teacher
from rlcredit.tasks.generated.esci_words import WORDS
from rlcredit.tasks.settings import oracle_text


def words_in(*texts):
    return {word for text in texts for word in re.findall(r"\w+", text.lower())}


def test_the_sizes_are_those_of_the_recipe(esci):
    assert len(esci.documents.ids) == 1920
    assert (len(esci.train), len(esci.validation), len(esci.test)) == (576, 80, 160)
    assert (esci.name, esci.source) == ("esci", "generated")
    assert (esci.rules.max_phrases, esci.rules.max_words, esci.rules.unique) == (8, 3, True)


def test_generating_takes_less_than_three_seconds():
    start = time.perf_counter()
    generated_task.cache_clear()
    ESCI(seed=5).load()
    assert time.perf_counter() - start < 3


def test_pairs_are_disjoint_and_both_halves_of_each_are_seen_in_training(esci_made):
    pairs = {split: set() for split in ("train", "validation", "test")}
    for query in esci_made.queries:
        pairs[query.split].add(esci_made.pairs[query.query_id])
    assert [len(pairs[split]) for split in ("train", "validation", "test")] == [192, 16, 32]
    assert not pairs["train"] & pairs["validation"]
    assert not pairs["train"] & pairs["test"]
    assert not pairs["validation"] & pairs["test"]
    assert {category for category, _ in pairs["train"]} == set(range(12))
    assert {persona for _, persona in pairs["train"]} == set(range(20))
    groups = {(category // 3, persona) for category, persona in pairs["train"]}
    assert groups == {(group, persona) for group in range(4) for persona in range(20)}


def test_no_wording_shares_a_word_with_another_attribute_or_with_a_query():
    materials = [material for table in WORDS.materials for material in table]
    attributes = [
        *WORDS.categories,
        *WORDS.features,
        *WORDS.styles,
        *materials,
        *(persona.use for persona in WORDS.personas),
    ]
    seen: dict[str, tuple[str, ...]] = {}
    for wordings in attributes:
        for word in words_in(*wordings):
            assert seen.setdefault(word, wordings) == wordings, word
    asked = words_in(*(surface for who in WORDS.personas for surface in who.surfaces))
    assert not asked & set(seen)
    assert not words_in(*WORDS.generic) & set(seen)
    assert not words_in(*WORDS.colours, *WORDS.brands) & (set(seen) | asked)


def test_every_wording_may_be_a_phrase(esci):
    for prompt in esci.train:
        assert all(1 <= len(wording.split()) <= 3 for wording in prompt.truth)
    assert all(1 <= len(wording.split()) <= 3 for wording in esci_catalogue.everything())
    assert all(len(phrase.split()) <= 3 for phrase in WORDS.generic)


def test_a_persona_shares_no_attribute_with_the_one_it_is_mistaken_for():
    for category in range(12):
        for persona in range(20):
            true = set(esci_catalogue.hidden(category, persona).values())
            assert not true & set(esci_catalogue.mistaken(category, persona).values())


def test_no_two_personas_are_mistaken_for_each_other_so_that_none_are_taught_alike(esci):
    mistaken = {
        esci_catalogue.hidden(0, persona)["use"]: esci_catalogue.mistaken(0, persona)["use"]
        for persona in range(20)
    }
    assert len(set(mistaken.values())) == 20
    assert all(mistaken[mistaken[use]] != use for use in mistaken)
    openings = {opening.phrases for opening in esci.teacher.openings.values()}
    assert len(openings) == 12
    assert not {(other, topic) for topic, other in openings} & openings
    taught = {sources[:2] for sources in esci.teacher.sources.values()}
    assert len(taught) == 20 * 4  # a persona's attributes, with the material of each group


def test_the_material_depends_on_the_group_and_the_kind_together():
    def material(category, persona):
        return esci_catalogue.hidden(category, persona)["material"][0]

    assert material(0, 0) == material(1, 0) == material(2, 0) == "merino wool"
    assert material(3, 0) == "ripstop nylon"
    assert material(0, 1) == "organic linen"
    assert material(11, 1) == "matte polycarbonate"
    assert (
        len({material(category, persona) for category in range(12) for persona in range(20)}) == 16
    )


def test_grades_follow_from_the_shared_attributes(esci_made):
    rng = np.random.default_rng(0)
    catalogue = esci_catalogue._catalogue(rng)
    wanted = esci_catalogue.true_attributes(4, 7)
    grades = esci_catalogue.grades_of(catalogue, 4, 7)
    for row in range(len(grades)):
        own = catalogue.attributes[row]
        shared = len({wanted[1], wanted[2]} & {own[1], own[2]})
        shared += sum(int(own[at] == wanted[at]) for at in (0, 3, 4))
        if catalogue.categories[row] == 4:
            expected = 3 if shared >= 4 else 2 if shared >= 2 else 0
        else:
            expected = 1 if own[0] == wanted[0] else 0
        assert grades[row] == expected


def test_products_carry_about_four_fifths_of_their_personas_attributes(esci_made):
    catalogue = esci_catalogue._catalogue(np.random.default_rng(0))
    styles = np.array([esci_catalogue.true_attributes(0, p)[3] for p in range(20)])
    # A style is kept with p = .8, or drawn again and right by chance with p = .1.
    by_use = styles[catalogue.attributes[:, 0]] == catalogue.attributes[:, 3]
    expected = 0.8 * (0.8 + 0.2 * 0.1) + 0.2 * (1 / 20 * 0.82 + 19 / 20 * 0.1)
    assert np.mean(by_use) == pytest.approx(expected, abs=0.05)


def test_ids_and_their_order_say_nothing_about_relevance(esci):
    places = [
        prompt.pool.index(document) / len(prompt.pool)
        for prompt in (*esci.train, *esci.test)
        for document, grade in prompt.relevance.items()
        if grade == 3
    ]
    assert np.mean(places) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 1920) + 0.01)


def test_truth_lists_every_wording_with_the_canonical_one_first(esci):
    prompt = esci.test[0]
    assert set(prompt.truth.values()) == {*esci_catalogue.ATTRIBUTES, "category"}
    first = [
        next(w for w, a in prompt.truth.items() if a == name) for name in set(prompt.truth.values())
    ]
    assert set(oracle_text(prompt).split(", ")) == set(first)
    assert oracle_text(prompt, without=("category",)).count(",") == 4
    assert sum(name == "category" for name in prompt.truth.values()) == 3


def test_a_query_names_the_category_and_hides_everything_else(esci):
    for prompt in (*esci.train, *esci.validation, *esci.test):
        assert any(
            noun in prompt.text.split() for noun, a in prompt.truth.items() if a == "category"
        )
        hidden = [wording for wording, a in prompt.truth.items() if a != "category"]
        assert not words_in(*hidden) & words_in(prompt.text)


def test_a_seed_makes_its_own_catalogue_and_always_the_same_one(esci):
    generated_task.cache_clear()
    assert ESCI().load().digest == esci.digest
    assert ESCI(seed=1).load().digest != esci.digest


def test_the_task_is_as_hard_as_it_was_calibrated_to_be(esci, esci_made):
    search = Search(esci)
    generator = torch.Generator().manual_seed(0)
    demonstrate = teacher({p.prompt_id: esci_made.pairs[p.prompt_id] for p in esci.test})
    rng = np.random.default_rng(0)
    anything = esci_catalogue.everything()
    raw = search.ndcg(lambda prompt: prompt.query)
    hidden = search.ndcg(lambda prompt: oracle_text(prompt, without=("category",)))
    oracle = search.ndcg(oracle_text)
    taught = search.ndcg(lambda prompt: demonstrate(prompt, generator))
    random = search.ndcg(lambda prompt: ", ".join(rng.choice(anything, 6, replace=False)))
    assert raw == pytest.approx(0.13, abs=0.03)
    assert hidden == pytest.approx(0.55, abs=0.04)
    assert oracle == pytest.approx(0.70, abs=0.04)
    assert taught == pytest.approx(0.27, abs=0.04)
    assert random == pytest.approx(0.06, abs=0.025)
    assert oracle - taught > 0.4
