"""What people look at: the run in Prefect's UI and the report, in headless Chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.integration.conftest import CurationRun

pytestmark = [pytest.mark.browser, pytest.mark.server, pytest.mark.real_model]
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


def test_the_run_is_visible_in_prefects_ui(first_run: CurationRun, browser: Browser) -> None:
    url, run = first_run.server.url, first_run.flow_run
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(f"{url}/v2/runs/flow-run/{run['id']}")
    expect(page.get_by_text("curate-shakespeare-8-sentences").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Completed").first).to_be_visible()
    page.goto(f"{url}/v2/runs/flow-run/{run['id']}?tab=Logs")
    expect(page.get_by_text("embeddings").first).to_be_visible(timeout=30_000)
    page.goto(f"{url}/v2/runs/flow-run/{run['id']}?tab=TaskRuns")
    expect(page.get_by_text("select by information gain").first).to_be_visible(timeout=30_000)
    for key, shown in (("summary", "Key numbers"), ("chosen", "gain (nats)"), ("report", "Where the whole report is")):
        of_key = {"artifacts": {"key": {"any_": [f"curate-shakespeare-{key}"]}}}
        artifact = first_run.server.post("artifacts/filter", of_key)[0]
        page.goto(f"{url}/v2/artifacts/artifact/{artifact['id']}")
        expect(page.get_by_text(shown, exact=True).first).to_be_visible(timeout=30_000)
    page.close()


def test_the_report_asks_no_host_for_anything_and_shows_its_figures(first_run: CurationRun, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((first_run.output / "report" / "index.html").as_uri())
    expect(page.get_by_role("heading", level=1)).to_contain_text("information gain", ignore_case=True)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    widths = page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 5 and all(width > 0 for width in widths)
    page.close()
