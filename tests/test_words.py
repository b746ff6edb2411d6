"""One spelling for all the bytes that write a word, wherever words are compared."""

from unicodedata import normalize

import pytest
import torch

from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.bm25 import BM25
from rlcredit.retrieval.encoders import Hashing
from rlcredit.retrieval.linear import LSA, TFIDF, Terms
from rlcredit.retrieval.rm3 import RM3
from rlcredit.tasks.pools import nearest
from rlcredit.tasks.published.cleaning import contains_words, words_of
from rlcredit.text.copying import WordRuns
from rlcredit.text.response import TextRules, segment_key
from rlcredit.text.words import folded, refuse_without_blanks, words

SPELLINGS = [
    ("café", normalize("NFD", "café")),
    ("iphone", "ｉＰｈｏｎｅ"),
    ("strasse", "STRAẞE"),
    ("microfiber", "micro\u00adfiber"),
    ("ガラス", "ｶﾞﾗｽ"),
    ("workflow", "workﬂow"),
]
every_spelling = pytest.mark.parametrize(("plain", "odd"), SPELLINGS)
TITLE = "ポータブル電源 大容量 アウトドア キャンプ用 Anker"


@every_spelling
def test_a_word_is_one_word_however_it_is_spelt(plain, odd):
    assert words(odd) == words(plain) == [plain]
    assert words_of(odd) == words_of(plain)
    assert folded(odd) == folded(plain) == folded(folded(odd))
    assert segment_key(f" {odd} x") == segment_key(f"{plain}  X")
    assert TextRules(unique=True).search_text(f"{plain}, {odd}", query="") == plain
    assert contains_words(f"a {odd} of glass", plain)
    assert contains_words(f"a {plain} of glass", odd)


@every_spelling
@pytest.mark.parametrize(
    "retriever", [BM25(), TFIDF(), TFIDF(terms=Terms.char_ngrams), LSA(dimensions=2)], ids=repr
)
def test_documents_and_search_texts_meet_in_both_directions(plain, odd, retriever, tmp_path):
    for written, searched in ((plain, odd), (odd, plain)):
        others = ("red tent, wool socks", "blue boat, wool scarf")
        documents = Documents(ids=("a", "b", "c"), texts=(f"{written} cover", *others))
        index = retriever.index(documents, cache=tmp_path)
        scores = index.score(index.encode([searched, plain]), torch.arange(2))
        assert index.document_ids[int(scores[0].argmax())] == "a"
        assert scores[0].max() > 0.1
        assert torch.equal(scores[0], scores[1])


@every_spelling
def test_expansions_pools_copies_and_encodings_see_one_word(plain, odd):
    assert RM3().weights(odd, [(f"{plain} tent", 1.0)]) == RM3().weights(
        plain, [(f"{odd} tent", 1.0)]
    )
    assert nearest([odd], ["boat", f"{plain} cover"], num=1).tolist() == [[1]]
    assert list(WordRuns.of([f"red {odd} tent"]).copied(f"red {plain} tent")) == [True] * 3
    assert torch.equal(Hashing()([odd]), Hashing()([plain]))


def test_signs_that_nfkc_makes_letters_end_a_word():
    assert words("Brand™ tent") == ["brand", "tent"]
    assert words("Kid's_tent №5") == ["kid", "s_tent", "5"]


def test_languages_without_blanks_are_refused_and_others_are_not():
    for texts in ([TITLE], ["หม้อหุงข้าวไฟฟ้า"], ["red tent", TITLE, TITLE]):
        with pytest.raises(ValueError, match=r"^pools: .* scripts without blanks .*choose"):
            refuse_without_blanks(texts, "pools")
    refuse_without_blanks(["Zelt für zwei", "carpa de campaña", "레드 텐트", "палатка"], "pools")
    refuse_without_blanks([f"{'waterproof hiking boots ' * 9}靴"], "pools")


@pytest.mark.parametrize("retriever", [BM25(), TFIDF(), LSA(dimensions=1)], ids=repr)
def test_retrievers_by_words_refuse_such_documents(retriever, tmp_path):
    documents = Documents(ids=("a", "b"), texts=(TITLE, f"{TITLE} red"))
    with pytest.raises(ValueError, match=r"bag-of-words retriever: .* without blanks"):
        retriever.index(documents, cache=tmp_path)
    index = TFIDF(terms=Terms.char_ngrams).index(documents, cache=tmp_path)
    assert index.encode(["大容量"]).known


@pytest.mark.parametrize("retriever", [BM25(), TFIDF(), LSA(dimensions=1)], ids=repr)
def test_documents_without_a_term_are_refused_in_our_words(retriever, tmp_path):
    with pytest.raises(ValueError, match="none of the 2 documents has a term to search for"):
        retriever.index(Documents(ids=("a", "b"), texts=("a b", "c, d")), cache=tmp_path)
    if isinstance(retriever, BM25):
        with pytest.raises(ValueError, match="has a term to search for"):
            retriever.index(Documents(ids=("a",), texts=("the and of",)), cache=tmp_path)
