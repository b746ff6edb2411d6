"""The documentation site, opened from disk: ``make docs test-browser`` (needs chromium)."""

import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
Wait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SITE = Path(__file__).parents[2] / "build" / "docs" / "site"
PAGES = ["index", "docs/methods/ospo", "docs/results/search", "docs/reference/methods", "CHANGELOG"]
NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND"
OUT_OF_SIGHT = """
return [...document.querySelectorAll("article *")].filter(element => {
  for (let up = element.parentElement; up; up = up.parentElement)
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) return false;
  return element.getBoundingClientRect().right > innerWidth + 1;
}).length"""

FOUND = """
const dialog = [...document.querySelectorAll("*")].map(each => each.shadowRoot).find(Boolean);
return [...dialog.querySelectorAll("[role=listbox] a")].map(link => link.href)"""


@pytest.fixture(scope="module")
def browser():
    if not SITE.is_dir():
        pytest.fail(f"no site in {SITE}: make docs")
    if not (CHROMIUM and DRIVER):
        pytest.fail("no chromium or chromedriver on the path: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    for each in ("--headless=new", "--no-sandbox", NO_NETWORK):
        options.add_argument(each)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.implicitly_wait(10)
    yield driver
    assert driver.get_log("browser") == []  # nothing was fetched, nothing failed
    driver.quit()


def opened(browser, page, *, width, scheme):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    colours = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colours})
    browser.get((SITE / f"{page}.html").as_uri())
    browser.execute_script("localStorage.clear()")
    browser.refresh()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_and_has_the_colours_that_were_asked_for(browser, page, width, scheme):
    opened(browser, page, width=width, scheme=scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(OUT_OF_SIGHT) == 0
    script = "return getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/)[0]"
    assert (float(browser.execute_script(script)) < 128) == (scheme == "dark")


def test_the_search_finds_a_method_without_a_server(browser):
    opened(browser, "index", width=1280, scheme="light")
    keys = webdriver.ActionChains(browser)
    keys.key_down("\ue009").send_keys("k").key_up("\ue009").perform()
    keys.send_keys("leave-one-out").perform()
    found = Wait(browser, 20).until(lambda driver: driver.execute_script(FOUND))
    assert any("docs/methods/loo.html" in link for link in found)


def test_equations_and_credit_are_drawn_with_their_numbers(browser):
    opened(browser, "docs/methods/ospo", width=1280, scheme="light")
    equation = browser.find_element("css selector", ".math svg")
    assert equation.size["width"] > 200
    assert "frac" in equation.get_attribute("aria-label")
    boxes = browser.find_elements("css selector", ".credit .method:first-child span")
    assert [box.text.split()[-1][0] for box in boxes] == ["+"] * 6
    plain, strong = (boxes[i].value_of_css_property("background-color") for i in (2, 0))
    assert plain != strong
