"""A function of one's own as a segmenter: what it may give, and what is named."""

import sys

import pytest

from rlcredit.identity import digest, identify
from rlcredit.text import SegmentFunction

SOURCE = """
NUMBER = 3
def clauses(text):
    starts = [0, *(i + 1 for i, c in enumerate(text) if c == ";")]
    return [(a, b) for a, b in zip(starts, [*(s - 1 for s in starts[1:]), len(text)]) if a < b]
def nothing(text): return None
def word(text): return ["ab"]
def beyond(text): return [(0, len(text) + 1)]
def empty(text): return [(1, 1)]
def twice(text): return [(0, 2), (1, 3)]
def flags(text): return [(False, True)]
def fails(text): return 1 / 0
"""


@pytest.fixture(autouse=True)
def package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_cuts.py").write_text(SOURCE)
    yield tmp_path / "own_cuts.py"
    sys.modules.pop("own_cuts", None)


def test_a_text_is_cut_where_the_function_says():
    cut = SegmentFunction(path="own_cuts:clauses")
    assert [span.of("a b;c;;d") for span in cut("a b;c;;d")] == ["a b", "c", "d"]
    assert cut("") == []


def test_the_code_is_part_of_what_a_run_is(package):
    segmenter = SegmentFunction(path="own_cuts:clauses")
    (version,) = segmenter.content()
    assert len(version) == 64
    sys.modules.pop("own_cuts")
    package.write_text(SOURCE + "# another\n")
    assert SegmentFunction(path="own_cuts:clauses").content() != (version,)
    assert digest(identify(segmenter)) == digest(identify(SegmentFunction(path="own_cuts:clauses")))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nothing", r"gave None, and a segment is a pair"),
        ("word", r"gave 'ab' on 'x; y', and a segment is a pair"),
        ("beyond", r"gave \(0, 5\)"),
        ("empty", r"gave \(1, 1\)"),
        ("flags", r"gave \(False, True\)"),
        ("twice", r"gave \(1, 3\) behind a segment that ends at 2"),
        ("fails", r"raised ZeroDivisionError"),
    ],
)
def test_what_is_no_segment_is_named(name, said):
    with pytest.raises(RuntimeError, match=rf"own_cuts:{name} {said}"):
        SegmentFunction(path=f"own_cuts:{name}")("x; y")


@pytest.mark.parametrize("path", ["own_cuts", "own_cuts:none", "not_there:cut", "own_cuts:NUMBER"])
def test_a_path_that_leads_nowhere_is_named(path):
    with pytest.raises(ValueError, match=rf"segmenter\.path={path} "):
        SegmentFunction(path=path).content()
