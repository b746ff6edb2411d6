"""The report in a real browser: ``make test-browser`` (needs chromium and chromium-driver)."""

import struct
import zlib
from itertools import pairwise

import pytest

from rlcredit.report.page import render, write_page
from rlcredit.report.runs import find_runs
from tests.report.pages import EVIL, long_views, shown, views, write_run

pytestmark = pytest.mark.browser
Select = pytest.importorskip("selenium.webdriver.support.select").Select
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys


@pytest.fixture(scope="module")
def write(tmp_path_factory):
    """Writes the page of two runs with what the explorer shows; its address."""

    def page(explored):
        folder = tmp_path_factory.mktemp("runs")
        write_run(folder / "a", steps=40, overrides=["size=smoke"])
        write_run(folder / "b", estimator="ospo", after=0.5, steps=30)
        runs, gaps = find_runs([folder])
        return write_page(folder / "report.html", render(runs, gaps, shown=explored)).as_uri()

    return page


@pytest.fixture(scope="module")
def address(write):
    return write(shown())


@pytest.fixture
def window(open_page, address):
    return open_page(address)


def test_clicking_through_shows_credit_rewards_and_lists(window):
    assert window.texts(".method b") == [
        "OSPO",
        "GRPO\nwhole responses: every token has the advantage +0.500",
    ]
    assert [row.text.split()[0] for row in window.find("#segments tbody tr")] == ["tent", "red"]
    assert "tent" in window.one("#without-title").text
    window.find(".method:first-child .part[role=button]")[1].click()
    assert "red" in window.one("#without-title").text
    assert window.one("#segments tr.chosen th").text == "red"
    window.one("#numbers").click()
    assert "+0.300" in window.find(".method")[0].text
    window.one("input[value=advantages]").click()
    assert "+0.500" in window.find(".method")[1].text
    Select(window.one("#response")).select_by_index(1)
    window.one("input[value=credit]").click()
    assert "\u22120.300" in window.find(".method")[0].text
    Select(window.one("#prompt")).select_by_index(1)
    assert window.one("#query").text == "a boat"
    window.find("#pick input")[1].click()
    assert len(window.find(".method")) == 1


def test_the_first_sentence_says_what_the_chosen_part_is_worth(window):
    said = window.one("#sentence").text
    assert said.endswith(
        "the model wrote 2 segments and earned a reward of 0.500. Without \u201ctent\u201d it "
        "would earn 0.100: this segment is worth +0.400. OSPO credits it with +0.300, and GRPO "
        "gives every token of the response the same advantage, +0.500."
    )


def test_parts_are_reached_and_chosen_by_the_keyboard(window):
    first = window.find(".method:first-child .part")[0]
    assert first.get_attribute("tabindex") == "0"
    assert first.get_attribute("aria-pressed") == "true"
    assert first.get_attribute("aria-label") == "tent: +0.300"
    window.run("arguments[0].focus()", first)
    window.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    active = window.driver.switch_to.active_element
    assert active.get_attribute("aria-label") == "red: \u22120.100"
    assert window.one("#segments tr.chosen th").text == "red"
    active.send_keys(Keys.HOME)
    assert window.driver.switch_to.active_element.get_attribute("aria-label") == "tent: +0.300"
    stops = window.run(
        "return [...document.querySelectorAll('#explorer a, #explorer select, #explorer input, "
        '#explorer button, #explorer [tabindex="0"]\')].map((each) => each.id || each.className)'
    )
    assert stops[:2] == ["prompt", "response"]
    assert sum("part" in stop for stop in stops) == 2  # one stop per method, not one per part


def test_everything_that_can_be_used_has_a_name(window):
    nameless = window.run("""
      return [...document.querySelectorAll("select, input, button, [role], a, svg, section")]
        .filter((each) => !(each.ariaLabel || each.textContent.trim() || each.ariaHidden === "true"
          || each.labels?.length || each.getAttribute("aria-labelledby")))
        .map((each) => each.outerHTML.slice(0, 80))""")
    assert nameless == []
    levels = window.run(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map((h) => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_an_address_opens_its_example(open_page, address, window):
    Select(window.one("#prompt")).select_by_index(1)
    Select(window.one("#response")).select_by_index(1)
    window.find("#segments button")[1].click()
    link = window.one("#permalink").get_attribute("href")
    assert link.endswith("#example=q%2F1/1/1")
    again = open_page(link)
    assert again.one("#query").text == "a boat"
    assert again.one("#response").get_attribute("selectedIndex") == "1"
    assert again.one("#segments tr.chosen th").text == "red"
    unknown = open_page(f"{address}#example=nobody/7/7")
    assert EVIL in unknown.one("#query").text


def test_moves_in_the_ranking_are_said_and_drawn(window):
    window.find("#segments button")[0].click()
    assert [item.split()[-1] for item in window.texts("#without li")] == ["\u25b21", "\u25bc1"]
    lines = window.find("#explorer .lists path")
    if window.name.startswith("1280"):
        assert sorted(line.get_attribute("class") for line in lines) == ["down", "up"]
    else:  # the lists stand below each other
        assert lines == []
    window.find("#segments button")[1].click()
    assert window.texts("#found li")[0].endswith("gone")


def test_two_runs_stand_side_by_side_on_the_chosen_prompt(window):
    titles = window.texts("#pairs h3")
    assert titles == ["OSPO, after training: reward 0.500", "GRPO, after training: reward 0.500"]
    Select(window.find("#right .which")[0]).select_by_index(1)
    assert window.texts("#pairs h3")[1].endswith("reward 0.200")
    Select(window.find("#left .run")[0]).select_by_index(1)
    assert window.texts("#pairs h3")[0].startswith("GRPO")
    Select(window.one("#judge")).select_by_index(1)
    Select(window.one("#prompt")).select_by_index(1)
    assert window.texts("#pairs h3")[1].endswith("reward 0.500")
    assert len(window.find("#pairs li")) == 4


def test_a_training_prompt_is_followed_over_its_steps(window):
    rows = window.texts("#steps tbody tr")
    assert [row.split()[:3] for row in rows] == [["1", "0.100", "0.100"], ["4", "0.400", "0.400"]]
    assert window.find("#steps .part.null")


def test_foreign_text_is_text(window):
    assert window.driver.title == "rlcredit report: GRPO, OSPO on ESCI"
    assert EVIL in window.one("#query").text
    assert any("<b>boat</b>" in text for text in window.texts("#found li"))
    assert window.find("main img, main b b, .lists b") == []


def test_credit_is_told_without_colour(window):
    good, _, bad = window.find(".method:first-child .token")
    assert good.value_of_css_property("border-bottom-style") == "solid"
    assert bad.value_of_css_property("border-bottom-style") == "dashed"
    assert len(window.find("#explorer .key li")) >= 7


def test_no_text_sticks_out_of_its_box_with_everything_unfolded(window):
    window.shoot("report")
    window.one("#numbers").click()
    window.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    window.assert_nothing_sticks_out()


def test_method_names_do_not_break_within_a_word(window):
    window.run("document.querySelector('.method b').firstChild.data = 'winner takes all twice'")
    width = window.run(
        "const range = document.createRange(); const text = document.querySelector('.method b')"
        ".firstChild; const words = text.data.split(' '); let at = 0; return words.map((word) => {"
        "range.setStart(text, at); range.setEnd(text, at + word.length); at += word.length + 1;"
        "return range.getClientRects().length; })"
    )
    assert width == [1, 1, 1, 1]


def test_a_response_of_300_tokens_is_readable(write, open_page):
    window = open_page(write(shown(long_views())))
    text = window.find(".method:first-child .text")[0]
    assert "long" in text.get_attribute("class")
    assert float(text.value_of_css_property("font-size").removesuffix("px")) >= 12
    assert text.size["height"] < (450 if window.name.startswith("1280") else 1300)
    window.find(".method:first-child .part")[20].click()
    assert window.one("#segments tr.chosen th").text.startswith("word100")
    window.shoot("long")
    window.assert_nothing_sticks_out()


def test_candidates_are_outlined_as_one(write, open_page):
    window = open_page(write(shown(views(), part="candidate")))
    parts = window.find(".method:first-child .part.set")
    assert len(parts) == 2
    assert parts[1].value_of_css_property("outline-style") == "dotted"
    assert window.find(".key .part.set")


def test_the_page_is_not_blank(window):
    assert len(colours(window.shoot("report"))) > 20
    assert len(window.find("figure svg path")) > 10


def colours(png):
    """Different bytes of the unpacked picture: a blank one has a handful."""
    at, packed = 8, b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + size]
        at += 12 + size
    return set(zlib.decompress(packed))
