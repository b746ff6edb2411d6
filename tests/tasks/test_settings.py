from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcredit.identity import digest
from rlcredit.retrieval.base import Documents
from rlcredit.tasks import ESCI, HM, Dataset, Teacher
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.pools import fill_pool, nearest
from rlcredit.tasks.published.cleaning import clean, contains_words, num_tokens
from rlcredit.tasks.published.hm_files import SEPARATOR, num_shown
from rlcredit.tasks.settings import Limits, Parts, Source, finish
from rlcredit.tasks.splits import sample_by_hash, share_of, split_pairs
from rlcredit.tasks.teachers import PhraseSource, PhraseTeacher
from rlcredit.text.response import Compose, TextRules
from rlcredit.text.words import words
from rlcredit.types import Prompt


def test_generated_sets_cut_phrases_and_published_ones_do_not_unless_asked(esci_folder):
    path = {"source": Source.path, "path": str(esci_folder)}
    assert ESCI(**path)._rules() == TextRules()
    generated = TextRules(
        max_phrases=8, max_words=3, unique=True, new_words=True, void_overlong=True
    )
    assert ESCI()._rules() == generated
    none = {
        "max_phrases": 0,
        "max_words": 0,
        "unique": False,
        "new_words": False,
        "void_overlong": False,
    }
    assert ESCI(**none)._rules() == TextRules()
    asked = ESCI(**path, max_phrases=4, max_words=2, unique=True, compose=Compose.expand)._rules()
    assert asked == TextRules(max_phrases=4, max_words=2, unique=True, compose=Compose.expand)
    assert HM(max_phrases=3)._rules() == replace(generated, max_phrases=3)


def test_generated_sets_count_the_words_of_catalogue_and_training_texts_alone(
    esci, hm, esci_folder
):
    for task in (esci, hm):
        known = set(task.rules.known_words)
        texts = (*task.documents.texts, *(prompt.text for prompt in task.train))
        demonstrations = [
            task.teacher(prompt, torch.Generator().manual_seed(index))
            for index, prompt in enumerate(task.train)
        ]
        assert known >= {word for text in (*texts, *demonstrations) for word in words(text)}
        assert not {"insulatedz", "xyzzy", "z"} & known
        assert all(task.rules.is_valid(p) for demo in demonstrations for p in demo.split(","))
    path = {"source": Source.path, "path": str(esci_folder)}
    assert ESCI(**path).load().rules.known_words is None
    asked = ESCI(**path, known_words=True).load()
    assert set(asked.rules.known_words) >= {w for t in asked.documents.texts for w in words(t)}


def test_the_rules_of_words_enter_digests_where_they_are_on_and_are_left_out_where_not():
    off = {"known_words": False, "new_words": False, "void_overlong": False}
    made = [ESCI(**off), *(ESCI(**off | {name: True}) for name in off)]
    assert len({each.load().digest for each in made}) == 4
    assert len({digest(data_identity(each)) for each in made}) == 4
    assert not off.keys() & data_identity(made[0]).keys()


def test_identities_follow_settings_and_content_and_not_the_place(esci_folder, tmp_path):
    assert data_identity(ESCI()) == data_identity(ESCI())
    assert (
        len({digest(data_identity(d)) for d in (ESCI(), ESCI(seed=1), ESCI(max_words=2), HM())})
        == 4
    )
    here = ESCI(source=Source.path, path=str(esci_folder))
    for file in esci_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert data_identity(replace(here, path=str(tmp_path))) == data_identity(here)
    changed = tmp_path / file.name
    changed.write_bytes(changed.read_bytes() + b"x")
    assert data_identity(replace(here, path=str(tmp_path))) != data_identity(here)


def prompt(prompt_id="q", **changes):
    given = {"text": "t", "query": "t", "relevance": {"d": 3}, "pool": ("d", "e")}
    return Prompt(prompt_id=prompt_id, **(given | changes))


def parts(**changes):
    given = {
        "documents": Documents(ids=("d", "e"), texts=("one", "two")),
        "train": (prompt("a"),),
        "validation": (prompt("b"),),
        "test": (prompt("c"),),
        "teacher": PhraseTeacher(sources={"a": (PhraseSource(weight=1.0, phrases=("x",)),)}),
        "counts": {"documents": 2},
    }
    return Parts(**(given | changes))


def test_the_digest_changes_with_everything_a_result_depends_on_and_with_nothing_else():
    def digest(changed, rules=TextRules(), name="esci"):  # noqa: B008
        return finish(name, Source.generated, changed, rules).digest

    same = digest(parts())
    assert digest(parts(counts={})) == same
    assert digest(parts(), name="hm") == same
    changes = [
        {"documents": Documents(ids=("d", "e"), texts=("one", "three"))},
        {"documents": Documents(ids=("d", "f"), texts=("one", "two"))},
        {"documents": Documents(ids=("d", "e"), texts=("onet", "wo"))},
        {"train": (prompt("a2"),)},
        {"train": (prompt("a", text="u"),)},
        {"train": (prompt("a", query="u"),)},
        {"train": (prompt("a", instruction="u"),)},
        {"train": (prompt("a", relevance={"d": 2}),)},
        {"train": (prompt("a", pool=("d",)),)},
        {"train": (prompt("a", truth={"x": "y"}),)},
        {"train": (prompt("a"), prompt("b")), "validation": (prompt("c"),)},
        {"teacher": PhraseTeacher(sources={"a": (PhraseSource(weight=2.0, phrases=("x",)),)})},
        {"teacher": PhraseTeacher(sources={"a": (PhraseSource(weight=1.0, phrases=("y",)),)})},
        {
            "teacher": PhraseTeacher(
                sources=parts().teacher.sources,
                openings={"a": PhraseSource(weight=1.0, phrases=("x",))},
            )
        },
    ]
    digests = [digest(parts(**change)) for change in changes]
    digests.append(digest(parts(), TextRules(max_words=3)))
    assert len({same, *digests}) == 1 + len(digests)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_an_empty_split_is_refused(split):
    with pytest.raises(ValueError, match=f"no {split} prompts are left of esci"):
        finish("esci", Source.path, parts(**{split: ()}), TextRules())


def test_the_parts_meet_their_protocols():
    assert isinstance(ESCI(), Dataset)
    assert isinstance(HM(), Dataset)
    assert isinstance(PhraseTeacher(sources={}), Teacher)


def test_limits_make_generated_sets_smaller_too():
    small = ESCI(max_train=20, max_validation=5, max_test=6).load()
    assert (len(small.train), len(small.validation), len(small.test)) == (20, 5, 6)
    assert set(small.teacher.sources) == {p.prompt_id for p in small.train}
    assert Limits(train=1, validation=2, test=None, documents=None).of("test") is None


def test_shares_are_even_and_depend_on_the_purpose():
    shares = [share_of(str(k), purpose="a") for k in range(4000)]
    assert np.mean(np.array(shares) < 0.2) == pytest.approx(0.2, abs=0.03)
    others = [share_of(str(k), purpose="b") for k in range(4000)]
    assert abs(np.corrcoef(shares, others)[0, 1]) < 0.06


def test_the_hash_order_is_a_fixed_one():
    assert sample_by_hash("abcdef", 3, purpose="limit") == sample_by_hash(
        "fedcba", 3, purpose="limit"
    )
    assert sample_by_hash("abcdef", None, purpose="x")[:4] == sample_by_hash(
        "abcdef", 4, purpose="x"
    )


@given(st.integers(0, 10**6), st.integers(2, 12), st.integers(4, 20), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_split_pairs_are_disjoint_complete_and_seen_by_halves(
    seed, num_rows, num_columns, held_out
):
    held_out = min(held_out, num_columns // 2)
    num_test = num_rows * held_out // 2
    pairs = split_pairs(
        np.random.default_rng(seed),
        num_rows=num_rows,
        num_columns=num_columns,
        held_out_per_row=held_out,
        num_test=num_test,
    )
    everything = [pair for members in pairs.values() for pair in members]
    assert len(everything) == len(set(everything)) == num_rows * num_columns
    assert len(pairs["test"]) == num_test
    assert {row for row, _ in pairs["train"]} == set(range(num_rows))
    assert {column for _, column in pairs["train"]} == set(range(num_columns))


def test_nearest_documents_share_the_rarest_words():
    documents = ["red tent", "blue tent", "tent pegs", "red mug", "lamp"]
    rows = nearest(["red tent", "a lamp", "nothing known"], documents, num=2)
    assert rows[0].tolist()[0] == 0
    assert rows[1].tolist()[0] == 4
    assert rows.shape == (3, 2)
    assert nearest(["x"], documents, num=9).shape == (1, 5)


@given(st.integers(0, 30), st.integers(2, 12), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_pool_holds_what_must_be_ranked_and_nothing_barred(num_documents, size, seed):
    catalogue = tuple(f"d{k:02d}" for k in range(num_documents))
    first, barred = catalogue[:2], catalogue[2:5]
    pool = fill_pool(first, catalogue, size=size, barred=barred, seed=seed, key="q")
    assert set(first) <= set(pool) <= set(catalogue) - set(barred)
    assert len(pool) == max(len(first), min(size, len(catalogue) - len(barred)))
    assert pool == fill_pool(first, catalogue, size=size, barred=barred, seed=seed, key="q")


def test_pools_differ_between_prompts_and_seeds():
    catalogue = tuple(f"d{k:03d}" for k in range(200))
    pools = {
        fill_pool((), catalogue, size=20, seed=seed, key=key) for seed in (0, 1) for key in "abc"
    }
    assert len(pools) == 6


@given(
    st.lists(st.text("ab c", min_size=1, max_size=8), min_size=1, max_size=8), st.integers(1, 12)
)
@settings(max_examples=60, deadline=None)
def test_as_many_of_the_latest_items_are_shown_as_fit(items, limit):
    num = num_shown(items, limit)
    assert 1 <= num <= len(items)
    if num > 1:
        assert num_tokens(SEPARATOR.join(items[-num:])) <= limit
    if num < len(items):
        assert num_tokens(SEPARATOR.join(items[-num - 1 :])) > limit


def test_markup_and_invisible_characters_go_and_comparisons_stay():
    assert clean("<p>5 < 6 &amp;&nbsp;7 > 3</p>\x00\u200b<!-- no -->") == "5 < 6 & 7 > 3"
    assert clean(" \n ") == ""


def test_whole_words_are_found_and_parts_of_words_are_not():
    assert contains_words("Black SKINNY jeans, blue", "skinny Jeans")
    assert not contains_words("skinnyjeans", "skinny")
    assert not contains_words("anything", "...")
