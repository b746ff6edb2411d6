"""Docstrings as the reference shows them."""

import pytest

as_markdown = pytest.importorskip("scripts.docs.docstrings", reason="the extra docs").as_markdown


def test_roles_and_double_backticks_are_code():
    assert as_markdown("Takes :class:`~rlcredit.types.Signals` and ``x``.") == (
        "Takes `rlcredit.types.Signals` and `x`."
    )


def test_axes_are_no_links_and_links_stay():
    assert (
        as_markdown("[P][G] texts, see [this](page.md)") == r"\[P]\[G] texts, see [this](page.md)"
    )


def test_an_example_is_a_block_to_its_last_line_of_output():
    text = "One.\n\n>>> f(1)\n[2]\n\nTwo [N]."
    assert as_markdown(text).split("\n") == [
        "One.",
        "",
        "",
        "```python",
        ">>> f(1)",
        "[2]",
        "```",
        "",
        "",
        r"Two \[N].",
    ]


def test_an_example_at_the_end_is_closed():
    assert as_markdown(">>> f(1)\n2").endswith("2\n```")
