"""Published product texts without their markup."""

import html
import re
from collections.abc import Iterable

from rlcredit.text.words import INVISIBLE, folded_matches

_ELEMENTS = (
    "a abbr acronym address article aside audio b big blockquote body br button caption "
    "center cite code col colgroup dd del details dfn div dl dt em embed figcaption figure "
    "font footer form frame h1 h2 h3 h4 h5 h6 head header hr html i iframe img input ins kbd "
    "label li link main mark meta nav noscript object ol option p param picture pre q s samp "
    "script section select small source span strike strong style sub summary sup svg table "
    "tbody td textarea tfoot th thead time title tr tt u ul var video wbr"
)
"""HTML's elements, those that it has given up included."""
_ATTRIBUTE = r"""[a-z_:@][\w:.-]*+\s*+=\s*+(?:"[^"<>]*+"|'[^'<>]*+'|[^\s"'<>=`]++)"""
_FLAG = r"(?:checked|compact|controls|disabled|hidden|nowrap|noshade|open|selected)(?=[\s/>])"
_TAG = re.compile(
    rf"</?(?:{_ELEMENTS.replace(' ', '|')})(?:\s++(?:{_ATTRIBUTE}|{_FLAG}))*+\s*+/?>", re.IGNORECASE
)
"""A tag of an element with that element's attributes: "size <b and c>" holds none."""
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\ufffc\ufffd]+")
_ENDLESS = re.compile(r"&#(?:\d{20}|x[\da-f]{20})[\da-f]*+;?", re.IGNORECASE)
"""A character's number that has too many digits to be one."""
_WORD = re.compile(r"[^\W_]+(?:['’&.-][^\W_]+)*")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def clean(text: str) -> str:
    r"""The text without tags, entities, control and invisible characters, single-spaced.

    Entities are read first: shops escape their markup. Only tags of HTML's elements are markup.

    >>> clean("<b>Tent</b>&nbsp;for\u200b  2&amp;3<br/>people")
    'Tent for 2&3 people'
    """
    return clean_all([text])[0]


def clean_all(texts: Iterable[str]) -> list[str]:
    """Each text as ``clean`` gives it."""
    return [_cleaned(text) for text in texts]


def _cleaned(text: str) -> str:
    text = html.unescape(_ENDLESS.sub(" ", text))
    # Every "<!--" in front of the last "-->" is closed: none is looked for in vain, which would
    # take quadratic time.
    head, closing, tail = text.rpartition("-->")
    text = _TAG.sub(" ", _COMMENT.sub(" ", head + closing) + tail)
    return " ".join(_CONTROL.sub(" ", INVISIBLE.sub("", text)).split())


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
