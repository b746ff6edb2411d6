"""A headless chromium whose window is as wide, and as light or dark, as a test asks."""

import base64
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
TALLEST = 16_000
"""Pixels of a page that a screenshot shows."""
OUTSIDE = """
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const scrolled = (node) => node.closest(".wide");
while (walker.nextNode()) {
  const text = walker.currentNode, parent = text.parentElement;
  if (!text.data.trim() || parent.closest("script, style, option, title, metadata")) continue;
  if (!parent.checkVisibility()) continue;
  const range = document.createRange();
  range.selectNodeContents(text);
  let box = parent;
  while (!parent.closest("svg") && getComputedStyle(box).display.startsWith("inline")) {
    box = box.parentElement;
  }
  const frame = (parent.closest("svg") || box).getBoundingClientRect();
  for (const rect of range.getClientRects()) {
    const page = scrolled(parent) ? Infinity : innerWidth;
    if (rect.left < frame.left - 2 || rect.right > frame.right + 2 || rect.right > page + 1
        || rect.top < frame.top - 4 || rect.bottom > frame.bottom + 4) {
      found.push(`${text.data.trim().slice(0, 60)}: ${Math.round(rect.left)} to ` +
        `${Math.round(rect.right)}, in ${Math.round(frame.left)} to ${Math.round(frame.right)}`);
      break;
    }
  }
}
return found;
"""
"""Texts that stand outside the box that holds them, or beyond the window where none scrolls."""


@dataclass(frozen=True)
class Window:
    """One page in one window."""

    driver: Any
    name: str

    def find(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        (found,) = self.find(selector)
        return found

    def texts(self, selector: str) -> list[str]:
        return [each.text for each in self.find(selector)]

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def shoot(self, what: str) -> bytes:
        """A picture of the whole page, kept where SCREENSHOTS names a folder."""
        width, height = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST), "scale": 1}
        asked = {"captureBeyondViewport": True, "clip": clip}
        picture = base64.b64decode(
            self.driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]
        )
        if folder := os.environ.get("SCREENSHOTS"):
            path = Path(folder) / f"{what}-{self.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture)
        return picture

    def assert_nothing_sticks_out(self) -> None:
        """No text outside its box, and no page wider than its window."""
        assert self.run(OUTSIDE) == []
        assert self.run("return document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.fixture(scope="session")
def driver():
    if not (CHROMIUM and DRIVER):
        pytest.fail("no chromium or chromedriver on the path: apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    for each in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1280,900"):
        options.add_argument(each)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(
    params=[(w, s) for w in (1280, 390) for s in ("light", "dark")],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def open_page(request, driver):
    """Opens a page; at the end its console must have stayed empty."""
    width, scheme = request.param
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"}]  # fmt: skip
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def opened(address: str) -> Window:
        driver.get("about:blank")  # an address that differs in its fragment alone loads nothing
        driver.get(address)
        return Window(driver, f"{width}-{scheme}")

    yield opened
    assert driver.get_log("browser") == []
