import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlcredit.text.render import coalition_text
from rlcredit.text.segmenters import Phrases

TEXT = " red ,  big tent;x,\tblue, last "
SPANS = Phrases()(TEXT)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([True, True, True, True], "red ,  big tent;x,\tblue, last"),
        ([False, False, False, False], ""),
        ([False, True, True, False], "big tent;x,\tblue"),
        ([True, False, True, False], "red ,  blue"),
        ([True, True, False, True], "red ,  big tent;x,\tlast"),
        ([False, False, False, True], "last"),
    ],
)
def test_deleting_segments_keeps_the_separator_behind_each_run(members, expected):
    assert coalition_text(TEXT, SPANS, members) == expected


@settings(deadline=None)
@given(st.text(alphabet="ab ,", max_size=30), st.data())
def test_a_coalition_of_phrases_reads_as_those_phrases(text, data):
    spans = Phrases()(text)
    members = data.draw(st.lists(st.booleans(), min_size=len(spans), max_size=len(spans)))
    rendered = coalition_text(text, spans, members)
    chosen = [s.of(text) for s, member in zip(spans, members, strict=True) if member]
    assert [s.of(rendered) for s in Phrases()(rendered)] == chosen
    if spans and all(members):
        assert rendered == text[spans[0].start : spans[-1].end]


def test_memberships_must_match_the_segments():
    with pytest.raises(ValueError, match="1 memberships for 4 segments"):
        coalition_text(TEXT, SPANS, [True])
