"""The page as a browser shows it, on a desk and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fishersft.reporting.summary import RunReport
from fishersft.reporting.write import write_report

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a program named chromium on the PATH"),
]

OVERLAPPING_CELLS = """() => {
  const boxes = [...document.querySelectorAll("#key-numbers th, #key-numbers td")].map((cell) => {
    const range = document.createRange();
    range.selectNodeContents(cell);
    return {text: cell.textContent, box: range.getBoundingClientRect()};
  }).filter(({box}) => box.width > 0);
  const meet = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5
    && b.top < a.bottom - 0.5;
  const pairs = boxes.flatMap((a, i) => boxes.slice(i + 1).filter((b) => meet(a.box, b.box))
    .map((b) => a.text + " / " + b.text));
  return {cells: boxes.length, pairs};
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.mark.parametrize("which", ["report", "hostile_report"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_whole_and_fits_the_screen(
    request: pytest.FixtureRequest, browser: Any, tmp_path: Path, which: str, width: int
) -> None:
    report: RunReport = request.getfixturevalue(which)
    address = write_report(report, tmp_path).as_uri()
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests: list[str] = []
    messages: list[str] = []
    page.on("request", lambda sent: requests.append(sent.url))
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(address)
    page.evaluate("() => document.querySelectorAll('details').forEach((details) => { details.open = true; })")

    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert messages == []
    assert page.title().endswith("FisherSFT")
    overflow = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow == 0
    images = page.evaluate("() => [...document.images].map((image) => image.complete && image.naturalWidth)")
    assert len(images) == 6
    assert all(images)
    overlaps = page.evaluate(OVERLAPPING_CELLS)
    # A phone shows each column's name beside its value instead of the header row.
    assert overlaps["cells"] == (28 if width > 640 else 21)
    assert overlaps["pairs"] == []
    page.close()
