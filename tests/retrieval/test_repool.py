"""Parts of texts, pooled from the token vectors of the whole."""

from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.dense import Dense
from rlcredit.retrieval.embedder import SentenceEmbedder
from rlcredit.retrieval.kinds import Dtype, Pooling, Role
from rlcredit.retrieval.linear import LSA
from rlcredit.retrieval.repool import Repooler, means, runs_of
from rlcredit.retrieval.vectors import unit_rows
from tests.retrieval.catalogue import WORDS, catalogue
from tests.retrieval.tiny_bert import save_trunk

WHOLE = "waterproof trail boots, insulated jacket, unbreakable bottle, light tent"
PARTS = [
    WHOLE,
    "waterproof trail boots",
    "insulated jacket, unbreakable bottle",
    "waterproof trail boots, light tent",
    "insulated jacket, light tent",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models: one whose tokens do not look at each other, one whose tokens do."""
    made = {layers: tmp_path_factory.mktemp(f"layers{layers}") for layers in (0, 2)}
    for layers, folder in made.items():
        save_trunk(folder, layers=layers)
    return made


def pooler(folder, **settings):
    embed = Dense(name=str(folder), pooling=Pooling.mean, **settings).embedder(Role.query)
    assert isinstance(embed, SentenceEmbedder)
    return Repooler(embed=embed)


@pytest.fixture(scope="module")
def minilm():
    embed = Dense().embedder(Role.query)
    assert isinstance(embed, SentenceEmbedder)
    return Repooler(embed=embed)


@pytest.mark.parametrize(
    ("part", "whole", "runs"),
    [
        ("a", "a", [(0, 1)]),
        ("b , c", "a , b , c", [(2, 5)]),
        ("a , c", "a , b , c", [(0, 2), (4, 5)]),
        ("a , c , e", "a , b , c , d , e", [(0, 2), (4, 6), (8, 9)]),
        ("tent", "red tent , tent", [(3, 4)]),
        ("a , b y", "a , b x , c , b y", [(0, 2), (7, 9)]),
        ("b c", "a b c d", [(1, 3)]),
        ("q d", "q c , d", [(0, 1), (3, 4)]),
        ("a b", "a b c , a", [(0, 2)]),
        ("c , a", "a , b , c", None),
        ("a a", "a , b", None),
        ("ten", "tent", None),
        ("a", "", None),
    ],
)
def test_a_part_is_found_as_runs_of_words_of_its_whole(part, whole, runs):
    found = runs_of(part.split(), whole.split())
    assert (found and [(run.start, run.stop) for run in found]) == runs


def test_means_are_over_each_sets_own_tokens():
    states = torch.tensor([[1.0, 0.0], [3.0, 2.0], [5.0, 10.0]])
    members = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    assert means(states, members).tolist() == [[1, 0], [2, 1], [3, 4]]


def test_where_tokens_do_not_look_at_each_other_a_part_is_the_mean_of_its_own(folders):
    repool = pooler(folders[0])
    whole, parts = "red tent, steel lamp, red", ["red tent", "red tent, red", "steel lamp"]
    found = repool(parts, [whole] * 3)
    trunk: Any = repool.embed.model[0]
    bert, tokenizer = trunk.model, repool.embed.model.tokenizer
    kinds = bert.embeddings.token_type_embeddings.weight[0]

    def by_hand(words):
        ids = torch.tensor(tokenizer.convert_tokens_to_ids(words))
        return bert.embeddings.LayerNorm(bert.get_input_embeddings().weight[ids] + kinds).mean(0)

    words = (["red", "tent"], ["red", "tent", ",", "red"], ["steel", "lamp"])
    expected = unit_rows(torch.stack([by_hand(own) for own in words]))
    assert found.found.all()
    assert found.num_passes == 1
    torch.testing.assert_close(found.rows, expected, rtol=0, atol=1e-6)


def test_with_the_ends_such_a_part_has_the_vector_it_has_by_itself(folders):
    repool = pooler(folders[0], query_prompt="query: ")
    parts = ["red tent", "red tent, red", "steel lamp"]
    with_ends = Repooler(embed=repool.embed, ends=True)
    whole = ["red tent, steel lamp, red"] * 3
    exact = repool.embed(parts).rows
    torch.testing.assert_close(with_ends(parts, whole).rows, exact, rtol=0, atol=1e-6)
    assert (repool(parts, whole).rows - exact).abs().max() > 0.01


@pytest.mark.parametrize("prompt", ["", "query: "])
def test_a_part_that_is_its_whole_has_the_exact_vector(minilm, folders, prompt):
    for repool in (minilm, pooler(folders[2], query_prompt=prompt)):
        texts = [WHOLE, f"{WORDS[0]} {WORDS[1]}", "red, red"]
        found = repool(texts, texts)
        torch.testing.assert_close(found.rows, repool.embed(texts).rows, rtol=0, atol=1e-5)


def test_minilms_parts_are_near_the_exact_ones_and_not_equal(minilm):
    found = minilm(PARTS, [WHOLE] * len(PARTS))
    exact = minilm.embed(PARTS).rows
    cosine = (found.rows * exact).sum(dim=1)
    assert found.found.all()
    torch.testing.assert_close(found.rows.norm(dim=1), torch.ones(len(PARTS)))
    assert cosine[0] > 0.99999
    assert cosine[1:].min() > 0.5
    assert cosine[1:].max() < 0.999


@pytest.mark.parametrize("dtype", list(Dtype))
def test_vectors_do_not_depend_on_the_order_of_the_parts(folders, dtype):
    repool = pooler(folders[2], dtype=dtype)
    wholes = [", ".join(WORDS[i : i + 4]) for i in range(20) for _ in range(3)]
    parts = [
        part for i in range(20) for part in (WORDS[i], WORDS[i + 3], ", ".join(WORDS[i : i + 2]))
    ]
    straight, back = repool(parts, wholes), repool(parts[::-1], wholes[::-1])
    assert straight.found.all()
    assert straight.num_passes == 20
    assert torch.equal(straight.rows, back.rows.flip(0))


def test_what_the_encoder_cut_off_or_does_not_know_is_not_found(folders):
    repool = pooler(folders[2])
    long = ", ".join(WORDS)  # 26 words and their commas, in an encoder of 32 tokens
    wholes = [long, long, long, "red, zzz", "red, zzz", "zzz", "red, zzz", ""]
    parts = [WORDS[0], WORDS[-1], f"{WORDS[0]}, {WORDS[-1]}", "red", "zzz", "zzz", ",", ""]
    found = repool(parts, wholes)
    assert found.found.tolist() == [True, False, False, True, False, False, False, False]
    assert found.rows[~found.found].count_nonzero() == 0


def test_characters_without_a_token_do_not_hide_a_part(minilm):
    whole = "red tent, big\x19 lamp, minimalist\x7f"
    found = minilm(["minimalist\x7f", "minimalist", "big\x19 lamp"], [whole] * 3)
    assert found.found.all()
    assert torch.equal(found.rows[0], found.rows[1])


def test_indexes_that_cannot_are_refused_with_the_remedy(folders, tmp_path):
    documents = catalogue(20)
    cls = Dense(name=str(folders[2]), pooling=Pooling.cls)
    left_out = tmp_path / "left_out"
    model = SentenceTransformer(modules=list(pooler(folders[2]).embed.model.children()))
    pooling: Any = model[1]
    pooling.include_prompt = False
    model.save(str(left_out), create_model_card=False)
    for retriever, said in (
        (BM25(), "SparseIndex"),
        (LSA(dimensions=8), "has none"),
        (cls, "by cls"),
        (Dense(name=str(left_out), query_prompt="query: "), "'query: '"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            Repooler.of(retriever.index(documents, cache=tmp_path))
        assert "reward.shortcut=repool" in str(caught.value)
        assert "retriever=minilm" in str(caught.value)
    taken = Repooler.of(Dense(name=str(left_out)).index(documents, cache=tmp_path))
    assert taken.embed.num_dimensions == 32
