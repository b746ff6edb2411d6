"""The report in a real browser: ``make test-browser`` (needs chromium and chromium-driver)."""

import shutil
import struct
import zlib

import pytest

from rlcredit.report.page import find_runs, render, write_page
from tests.report.pages import EVIL, TITLES, views, write_run

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
Select = pytest.importorskip("selenium.webdriver.support.select").Select
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", steps=4)
    write_run(folder / "b", estimator="ospo", after=0.5)
    runs, gaps = find_runs([folder])
    html = render(runs, gaps, explored=views(), titles=TITLES, explored_run=folder / "a")
    return write_page(folder / "report.html", html).as_uri()


@pytest.fixture(params=[(1200, 900), (390, 800)], ids=["desk", "phone"])
def browser(request, page):
    if not (CHROMIUM and DRIVER):
        pytest.fail("no chromium or chromedriver on the path: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    width, height = request.param
    for each in ("--headless=new", "--no-sandbox", f"--window-size={width},{height}"):
        options.add_argument(each)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get(page)
    yield driver
    assert driver.get_log("browser") == []
    driver.quit()


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def test_clicking_through_shows_credit_coalitions_and_lists(browser):
    names = [name.text.split("\n")[0] for name in find(browser, ".method b")]
    assert names == ["ospo", "grpo"]
    assert find(browser, ".method:first-child .token")[0].text == "tent"
    assert len(find(browser, "#segments tbody tr")) == 2
    assert "tent" in find(browser, "#without-title")[0].text
    find(browser, ".method:first-child .token[role=button]")[1].click()
    assert "red" in find(browser, "#without-title")[0].text
    assert find(browser, "#segments tr.chosen th")[0].text == "red"
    find(browser, "#numbers")[0].click()
    assert "+0.300" in find(browser, ".method")[0].text
    find(browser, "input[value=advantages]")[0].click()
    assert "+0.500" in find(browser, ".method")[1].text
    Select(find(browser, "#response")[0]).select_by_index(1)
    find(browser, "input[value=credit]")[0].click()
    assert "\u22120.300" in find(browser, ".method")[0].text


def test_foreign_text_is_text(browser):
    assert browser.title == "rlcredit report"
    assert EVIL in find(browser, "#query")[0].text
    assert any("<b>boat</b>" in item.text for item in find(browser, "#found li"))
    assert find(browser, "main img, main b b") == []


def test_credit_is_told_without_colour_and_nothing_is_cut_off(browser):
    good, _, bad = find(browser, ".method:first-child .token")
    assert good.value_of_css_property("border-bottom-style") == "solid"
    assert bad.value_of_css_property("border-bottom-style") == "dashed"
    wide = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


def test_the_page_is_not_blank(browser):
    assert len(colours(browser.get_screenshot_as_png())) > 20
    assert len(find(browser, "figure svg path")) > 10


def colours(png):
    """Different bytes of the unpacked picture: a blank one has a handful."""
    at, packed = 8, b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + size]
        at += 12 + size
    return set(zlib.decompress(packed))
