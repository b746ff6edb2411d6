"""What is left of published texts: their words whole, their markup gone."""

import pytest

from rlcredit.tasks.published.cleaning import clean
from rlcredit.text.words import words


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("&lt;b&gt;Tent&lt;/b&gt; &lt;br /&gt;big", "Tent big"),
        ("size <b and c>, red", "size <b and c>, red"),
        (
            "fits <2 and >5; x<y> and <Brand Name> caps",
            "fits <2 and >5; x<y> and <Brand Name> caps",
        ),
        ("<a href=\"u\" target=_blank rel = 'x'>Tent</A\n> <td nowrap>red", "Tent red"),
        ("<UL><li>one</li><LI class=x>two</LI></UL>", "one two"),
        ("wide <!-- not <b>shown</b> --> tent <!-- never closed", "wide tent <!-- never closed"),
        ("water\u00adproof shelf\u200clife\u2060 \ufefftent", "waterproof shelflife tent"),
        ("a\u200bb\x00c\ufffdd", "a b c d"),
        ("&#8482;&#x41;&#" + "9" * 6000 + ";&#x" + "f" * 6000 + " z", "™A z"),
    ],
)
def test_real_tags_go_and_everything_else_stays(text, cleaned):
    assert clean(text) == cleaned


def test_a_soft_hyphen_parts_no_word_in_documents_or_in_what_is_searched_with():
    assert words(clean("micro&shy;fiber")) == words("micro\u00adfiber") == ["microfiber"]
