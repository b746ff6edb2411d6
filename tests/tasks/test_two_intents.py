"""Queries with two possible intents: what they say, what they hide, what they leave alone."""

from collections import Counter

import numpy as np
import pytest
from searching import Search

from rlcredit.tasks import ESCI
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.esci import generated_task
from rlcredit.tasks.generated import esci_catalogue
from rlcredit.tasks.generated.esci_catalogue import grades_of
from rlcredit.tasks.generated.esci_intents import with_two_intents
from rlcredit.tasks.generated.esci_words import WORDS
from rlcredit.tasks.settings import SPLITS, Source

SHARE = 0.2


@pytest.fixture(scope="module")
def made(esci_made):
    return with_two_intents(esci_made, share=SHARE, seed=0, pool_size=100)


def by_id(task):
    return {p.prompt_id: p for split in SPLITS for p in getattr(task, split)}


def test_without_a_share_data_and_digests_are_what_they_were(esci):
    before = ESCI(known_words=False, new_words=False, void_overlong=False).load()
    assert before.digest == "c52642984d44c0088dc8ce4c1f101556"
    assert before.digest != esci.digest
    assert "ambiguous_share" not in data_identity(ESCI())
    assert data_identity(ESCI(ambiguous_share=0.0)) == data_identity(ESCI())
    assert data_identity(ESCI(ambiguous_share=0.1)) != data_identity(ESCI())


def test_a_share_of_each_split_changes_and_nothing_else(esci, two_intents, made):
    old, new = by_id(esci), by_id(two_intents)
    changed = {prompt_id for prompt_id in old if old[prompt_id] != new[prompt_id]}
    assert old.keys() == new.keys()
    assert changed == set(made.others)
    for split in SPLITS:
        own = [p.prompt_id for p in getattr(two_intents, split)]
        assert len(changed & set(own)) == round(SHARE * len(own))
    assert two_intents.documents == esci.documents
    assert two_intents.counts["queries with two possible intents"] == len(changed)


def test_a_seed_makes_its_own_and_always_the_same(two_intents, esci_made, made):
    generated_task.cache_clear()
    assert ESCI(ambiguous_share=SHARE).load().digest == two_intents.digest
    other = with_two_intents(esci_made, share=SHARE, seed=1, pool_size=100)
    assert set(other.others) != set(made.others)
    more = with_two_intents(esci_made, share=0.4, seed=0, pool_size=100)
    assert set(made.others) < set(more.others)


def test_both_intents_are_of_one_category_and_on_one_side_of_the_split(esci_made, made):
    sides = {esci_made.pairs[query.query_id]: query.split for query in esci_made.queries}
    split_of = {query.query_id: query.split for query in made.queries}
    for query_id, other in made.others.items():
        meant = made.pairs[query_id]
        assert meant != other
        assert meant[0] == other[0]
        assert sides[meant] == sides[other] == split_of[query_id]
        assert esci_made.pairs[query_id] in (meant, other)


def test_the_text_names_both_personas_and_not_which_one_is_meant(made):
    first = 0
    for query in made.queries:
        if query.query_id not in made.others:
            continue
        places = [
            max(query.text.find(surface) for surface in WORDS.personas[persona].surfaces)
            for _, persona in (made.pairs[query.query_id], made.others[query.query_id])
        ]
        assert min(places) > 0
        first += places[0] < places[1]
    assert first / len(made.others) == pytest.approx(0.5, abs=0.12)  # 3 standard errors


def test_grades_are_of_the_meant_intent_and_the_pool_is_the_same_mixture_of_both(made):
    rows = {product: row for row, product in enumerate(made.catalogue.ids)}
    counts: Counter[str] = Counter()
    for query in made.queries:
        if query.query_id not in made.others:
            continue
        meant = grades_of(made.catalogue, *made.pairs[query.query_id])
        second = grades_of(made.catalogue, *made.others[query.query_id])
        pool = [rows[product] for product in query.grades]
        assert list(query.grades.values()) == meant[pool].tolist()
        assert len(pool) == len(set(pool)) == 100
        for name, grades in (("meant", meant), ("second", second)):
            found = int((grades[pool] == 3).sum())
            assert 1 <= found <= 5 + int(((meant == 3) & (second == 3)).sum())
            counts[name] += found
    assert counts["meant"] == pytest.approx(counts["second"], rel=0.1)


def test_the_teacher_takes_one_intent_for_the_other_half_of_the_time(two_intents, made):
    for prompt in two_intents.train:
        if prompt.prompt_id not in made.others:
            continue
        true, mistaken, *_ = two_intents.teacher.sources[prompt.prompt_id]
        assert true.weight == mistaken.weight
        for source, pairs in ((true, made.pairs), (mistaken, made.others)):
            wanted = esci_catalogue.hidden(*pairs[prompt.prompt_id])
            assert source.phrases == tuple(wordings[0] for wordings in wanted.values())


def test_a_set_of_both_intents_is_worth_more_than_a_guess_and_than_their_mixture(two_intents, made):
    search = Search(two_intents)
    worth = {"guess": [], "mixture": [], "set": []}
    for prompt, *pool in search.test:
        if prompt.prompt_id not in made.others:
            continue
        intents = (made.pairs[prompt.prompt_id], made.others[prompt.prompt_id])
        said = [[w[0] for w in esci_catalogue.truth(*pair).values()] for pair in intents]
        texts = [", ".join(own) for own in (*said, dict.fromkeys([*said[0], *said[1]]))]
        right, wrong, both = (search._one(prompt, *pool, lambda _, t=t: t) for t in texts)
        worth["guess"].append((right + wrong) / 2)
        worth["mixture"].append(both)
        worth["set"].append(max(right, wrong))
    guess, mixture, of_both = (float(np.mean(values)) for values in worth.values())
    assert guess == pytest.approx(0.42, abs=0.04)
    assert mixture == pytest.approx(0.53, abs=0.05)
    assert of_both == pytest.approx(0.84, abs=0.06)


def test_shares_that_cannot_be_had_are_refused():
    with pytest.raises(ValueError, match=r"ambiguous_share=1.5 is not in"):
        ESCI(ambiguous_share=1.5)
    with pytest.raises(ValueError, match=r"source=path: only generated"):
        ESCI(ambiguous_share=0.2, source=Source.path, path="data/esci")
    with pytest.raises(ValueError, match=r"80 of 80 validation queries, but 40 .*lower it to 0.50"):
        ESCI(ambiguous_share=1.0).load()
