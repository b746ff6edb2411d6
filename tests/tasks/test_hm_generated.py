import re

import numpy as np
import pytest
import torch
from searching import Search

from rlcredit.tasks import HM
from rlcredit.tasks.generated import hm_catalogue
from rlcredit.tasks.generated.hm_customers import teacher
from rlcredit.tasks.generated.hm_words import MISTAKEN_BY, WORDS, lines_of
from rlcredit.tasks.hm import generated_task
from rlcredit.tasks.published.hm_files import articles_of
from rlcredit.tasks.published.tables import Batch
from rlcredit.tasks.settings import oracle_text


def words_in(*texts):
    return {word for text in texts for word in re.findall(r"\w+", text.lower())}


def test_the_sizes_are_those_of_the_recipe(hm):
    assert len(hm.documents.ids) == 1440
    assert (len(hm.train), len(hm.validation), len(hm.test)) == (576, 80, 160)
    assert all(len(document_id) == 10 and document_id[0] == "0" for document_id in hm.documents.ids)


def test_pairs_are_disjoint_and_both_halves_of_each_are_seen_in_training(hm_made):
    pairs = {split: set() for split in ("train", "validation", "test")}
    for customer in hm_made.customers:
        pairs[customer.split].add(customer.pair)
    assert [len(pairs[split]) for split in ("train", "validation", "test")] == [192, 16, 32]
    assert not pairs["train"] & (pairs["validation"] | pairs["test"])
    assert not pairs["validation"] & pairs["test"]
    assert {taste for taste, _ in pairs["train"]} == set(range(16))
    assert {garment for _, garment in pairs["train"]} == set(range(15))


def test_the_next_purchase_is_new_of_the_type_and_shares_the_taste(hm_made):
    shop = hm_catalogue._shop(np.random.default_rng([0, 1]))
    row = {article: at for at, article in enumerate(shop.ids)}
    shared = []
    for customer in hm_made.customers:
        taste, garment = customer.pair
        at = row[customer.target]
        assert customer.target not in customer.history
        assert shop.types[at] == garment
        assert shop.lines[at] not in {shop.lines[row[article]] for article in customer.history}
        shared.append(shop.shared(taste)[at])
    assert np.mean(shared) > 4.5
    assert min(shared) >= 3


def test_no_other_article_of_a_pool_would_fit_as_well(hm_made):
    shop = hm_catalogue._shop(np.random.default_rng([0, 1]))
    row = {article: at for at, article in enumerate(shop.ids)}
    for customer in hm_made.customers[::7]:
        taste, garment = customer.pair
        others = [row[article] for article in customer.pool if article != customer.target]
        assert len(others) == 99
        assert not set(customer.history) & set(customer.pool)
        of_type = [at for at in others if shop.types[at] == garment]
        assert of_type
        assert max(shop.shared(taste)[at] for at in of_type) < 3


def test_histories_mostly_share_the_taste_and_announce_the_next_type(hm_made):
    shop = hm_catalogue._shop(np.random.default_rng([0, 1]))
    row = {article: at for at, article in enumerate(shop.ids)}
    in_taste, announced = [], []
    for customer in hm_made.customers:
        history = [row[article] for article in customer.history]
        assert 3 <= len(history) <= 5
        in_taste += [shop.tastes[at] == customer.pair[0] for at in history]
        last = WORDS.garments[shop.types[history[-1]]]
        announced.append(last.followed_by == customer.pair[1])
    assert np.mean(in_taste) == pytest.approx(0.86, abs=0.04)
    assert np.mean(announced) == pytest.approx(0.86, abs=0.04)


def test_every_type_announces_another_one_and_each_is_announced_once():
    followers = [garment.followed_by for garment in WORDS.garments]
    assert sorted(followers) == list(range(len(WORDS.garments)))


def test_a_taste_shares_no_attribute_with_the_one_it_is_mistaken_for():
    colours = []
    for taste in range(16):
        mistaken = hm_catalogue.mistaken(taste)
        assert not set(hm_catalogue.hidden(taste).values()) & set(mistaken.values())
        assert len(set(lines_of(taste))) == 6
        colours.append(tuple(mistaken.values()))
    assert len(set(colours)) == 16


def test_no_two_tastes_or_types_are_mistaken_for_each_other(hm):
    for taste in range(16):
        twice = (taste + 2 * MISTAKEN_BY) % 16
        assert twice != taste
    openings = {opening.phrases for opening in hm.teacher.openings.values()}
    assert len(openings) == 15
    assert not {(last, following) for following, last in openings} & openings


def test_no_wording_shares_a_word_with_another_attribute_or_with_a_line():
    lists = [*(one for lists in hm_catalogue.LISTS for one in lists)]
    seen: dict[str, tuple[str, ...]] = {}
    for wordings in [*lists, *(garment.wordings for garment in WORDS.garments)]:
        assert all(1 <= len(wording.split()) <= 3 for wording in wordings)
        for word in words_in(*wordings):
            assert seen.setdefault(word, wordings) == wordings, word
    assert not words_in(*WORDS.lines, *WORDS.generic) & set(seen)


def test_a_prompt_shows_names_types_and_colours_and_hides_the_rest(hm, hm_made):
    articles = articles_of(Batch(origin="made", first=1, rows=hm_made.articles))
    customers = {customer.customer_id: customer for customer in hm_made.customers}
    for prompt in hm.test:
        history = [articles[article] for article in customers[prompt.prompt_id].history]
        assert prompt.text == "; ".join(
            f"{a.name} {a.product_type} {a.colour}".lower() for a in history
        )
        assert prompt.query == ", ".join(article.name.lower() for article in history)
        hidden = [
            w for w, a in prompt.truth.items() if a in ("pattern", "fit", "fabric", "section")
        ]
        assert len(hidden) == 8
        assert not words_in(*hidden) & words_in(prompt.text)


def test_a_seed_makes_its_own_shop_and_always_the_same_one(hm):
    generated_task.cache_clear()
    assert HM().load().digest == hm.digest
    assert HM(seed=1).load().digest != hm.digest


def test_the_task_is_as_hard_as_it_was_calibrated_to_be(hm, hm_made):
    search = Search(hm)
    pairs = {customer.customer_id: customer.pair for customer in hm_made.customers}
    demonstrate = teacher({prompt.prompt_id: pairs[prompt.prompt_id] for prompt in hm.test})
    generator = torch.Generator().manual_seed(0)
    oracle = search.ndcg(oracle_text)
    taught = search.ndcg(lambda prompt: demonstrate(prompt, generator))
    assert oracle == pytest.approx(0.74, abs=0.05)
    assert search.ndcg(lambda prompt: prompt.text) == pytest.approx(0.06, abs=0.04)
    assert taught == pytest.approx(0.22, abs=0.05)
    assert oracle - taught > 0.4
