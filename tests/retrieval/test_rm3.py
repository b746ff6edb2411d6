"""RM3 against its formula, and its text against the weights that it stands for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.rm3 import RM3

FOUND = [("red tent tent", 2.0), ("green tent", 1.0), ("blue boat", 0.5)]


def test_weights_by_hand():
    found = RM3(num_terms=2, query_weight=0.6).weights("a tent for winter", FOUND)
    # tent: 2 * 2/3 + 1 * 1/2 = 11/6; red: 2 * 1/3 = 2/3; the others are cut off
    tent, red = 11 / 6, 2 / 3
    assert found == pytest.approx(
        {
            "tent": 0.6 / 2 + 0.4 * tent / (tent + red),
            "winter": 0.6 / 2,
            "red": 0.4 * red / (tent + red),
        }
    )


@given(
    query=st.lists(st.sampled_from(["tent", "boat", "winter", "for"]), max_size=4).map(" ".join),
    found=st.lists(
        st.tuples(st.sampled_from([t for t, _ in FOUND]), st.floats(0.1, 9)), max_size=4
    ),
)
def test_weights_are_a_distribution_unless_there_is_nothing(query, found):
    weights = RM3().weights(query, found)
    total = sum(weights.values())
    assert total == pytest.approx(1.0) if weights else (not found and set(query.split()) <= {"for"})
    assert all(weight >= 0 for weight in weights.values())


def test_the_text_ranks_as_the_exact_weights_do(tmp_path):
    generator = np.random.default_rng(0)
    vocabulary = [f"word{n}" for n in range(30)]
    texts = tuple(" ".join(generator.choice(vocabulary, 12)) for _ in range(60))
    index = (
        BM25()
        .index(Documents(ids=tuple(f"d{n:02}" for n in range(60)), texts=texts), cache=tmp_path)
        .linear
    )  # a term stands in the text as often as it weighs
    found = [(texts[n], float(3 - n / 5)) for n in range(10)]
    rm3 = RM3(length=2000)
    weights = rm3.weights("word1 word2", found)
    exact = sum(
        weight * index.score(index.encode([term]), torch.tensor([0])).clamp_min(0)[0]
        for term, weight in weights.items()
    )
    text = rm3("word1 word2", found)
    scores = index.score(index.encode([text]), torch.tensor([0])).clamp_min(0)[0] / len(
        text.split()
    )
    assert scores.numpy() == pytest.approx(exact.numpy(), abs=0.01)


def test_a_query_that_finds_nothing_stays_as_it_is():
    assert RM3()("the Zebra!", []) == "the Zebra!"


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"num_terms": 0}, "num_terms=0"), ({"query_weight": 1.5}, "query_weight=1.5")],
)
def test_settings_out_of_range_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        RM3(**settings)
