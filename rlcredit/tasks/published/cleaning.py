"""Published product texts without their markup."""

import html
import re
from collections.abc import Iterable

from rlcredit.words import folded_matches

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\ufffc\ufffd]+"
)
_WORD = re.compile(r"[^\W_]+(?:['’&.-][^\W_]+)*")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def clean(text: str) -> str:
    r"""The text without tags, entities, control and invisible characters, single-spaced.

    >>> clean("<b>Tent</b>&nbsp;for\u200b  2&amp;3<br/>people")
    'Tent for 2&3 people'
    """
    return clean_all([text])[0]


def clean_all(texts: Iterable[str]) -> list[str]:
    """Each text as ``clean`` gives it."""
    untagged = (html.unescape(_TAG.sub(" ", text)) for text in texts)
    return [" ".join(_CONTROL.sub(" ", text).split()) for text in untagged]


def words_of(text: str) -> list[str]:
    """Folded words, inner hyphens and the like kept, all other punctuation dropped.

    >>> words_of("Men's T-Shirt, (2-Pack)")
    ["men's", 't-shirt', '2-pack']
    """
    return folded_matches(_WORD, text)


def num_tokens(text: str) -> int:
    """Words and punctuation marks, the length in which histories are cut; needs no tokenizer.

    >>> num_tokens("black trousers; t-shirt")
    6
    """
    return len(_TOKEN.findall(text))


def contains_words(text: str, phrase: str) -> bool:
    """Whether the phrase's words stand in the text, one after the other, as whole words.

    >>> contains_words("Strap top black", "TOP"), contains_words("laptop sleeve", "top")
    (True, False)
    """
    needle = words_of(phrase)
    return bool(needle) and f" {' '.join(needle)} " in f" {' '.join(words_of(text))} "
