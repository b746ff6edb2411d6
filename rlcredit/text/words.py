"""How words are compared: one spelling for all the bytes that write the same word.

Documents, queries, responses and published texts all pass through here before a word of one is
compared with a word of another.
"""

import re
from collections.abc import Iterable
from unicodedata import normalize

INVISIBLE = re.compile("[\u00ad\u200c-\u200f\u202a-\u202e\u2060-\u2064\ufeff]+")
"""Soft hyphens, joiners and direction marks: they show nothing, and end no word."""

FOLDING = "NFC, NFKC casefold"
"""The rule's name in content hashes; it changes with what :func:`folded_matches` finds."""

_WORD = re.compile(r"\w+")
_LETTERS = re.compile(r"[^\W\d_]+")
_WITHOUT_BLANKS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f]+"
)
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters."""

_MOST = 0.25
"""Largest share of such letters in texts that are compared word by word; brand names aside, a
Japanese title is made of them."""


def folded(text: str) -> str:
    """The text in the form in which it is compared: NFKC, case folded (Unicode, UAX 31).

    >>> folded("ＣＡＦE\u0301") == folded("café")
    True
    """
    if text.isascii():
        return text.lower()
    return normalize("NFKC", normalize("NFKC", INVISIBLE.sub("", text)).casefold())


def folded_matches(pattern: re.Pattern[str], text: str) -> list[str]:
    """What a pattern without groups finds in a text, each find folded.

    Words are found before they are folded, because NFKC makes letters of signs: ``Brand™`` is the
    word ``brand``.
    """
    if text.isascii():
        return pattern.findall(text.lower())
    composed = normalize("NFC", INVISIBLE.sub("", text))
    return [folded(found) for found in pattern.findall(composed)]


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, folded.

    >>> words("Kid's Tent, 2-person")
    ['kid', 's', 'tent', '2', 'person']
    """
    return folded_matches(_WORD, text)


def vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """The different words of texts, folded."""
    return frozenset(word for text in texts for word in words(text))


def is_word(identifier: str) -> bool:
    """Whether an id is one word, as the files of judgements and rankings need it.

    >>> is_word("B0-7"), is_word("B0 7"), is_word("")
    (True, False, False)
    """
    return len(identifier.split()) == 1


def refuse_without_blanks(texts: Iterable[str], what: str) -> None:
    """Refuse texts of languages that put no blanks between words: a sentence would be one word.

    Args:
        texts: As they are compared.
        what: Whose they are, at the head of the error.

    Raises:
        ValueError: If more than a quarter of their letters are of such a script.
    """
    letters = unseparated = 0
    for text in texts:
        letters += sum(map(len, _LETTERS.findall(text)))
        if not text.isascii():
            unseparated += sum(map(len, _WITHOUT_BLANKS.findall(text)))
    if unseparated > _MOST * letters:
        raise ValueError(
            f"{what}: {unseparated} of {letters} letters are of scripts without blanks between "
            "words (Japanese, Chinese, Thai and the like), and texts are compared word by word; "
            "choose a language with blanks"
        )
