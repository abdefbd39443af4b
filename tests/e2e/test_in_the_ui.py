"""What a person does in Prefect's UI: start a run from the form, approve its choice, look at it, cancel one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, Response, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.e2e.run_form import Form, choose_from_menu
from tests.e2e.ui_fixtures import PATIENCE, Ui, chromium, page, prefect_server, ui  # noqa: F401  fixtures

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.server]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots of what was seen are left."""
    return tmp_path_factory.mktemp("screenshots")


def open_form(ui: Ui, page: Page, deployment: str) -> Form:  # noqa: F811
    found = ui.server.deployment(deployment)["id"]
    page.goto(f"{ui.server.url}/v2/deployments/deployment/{found}/run")
    form = Form(page)
    expect(form.field("config", "Name")).to_be_visible()
    return form


def answer_to(page: Page, request: str, act: Callable[[], None]) -> Response:  # noqa: F811
    """What the server answers to what a person does, who does it again where a busy server failed to answer."""
    for _ in range(3):
        try:
            with page.expect_response(lambda got: got.url.endswith(request), timeout=1.5 * PATIENCE) as answer:
                act()
        except PlaywrightTimeout:
            continue
        if answer.value.ok:
            return answer.value
    raise AssertionError(f"{request} was not answered\n{page.locator('body').inner_text()}")


def start(ui: Ui, page: Page, fill: Callable[[Form], None]) -> str:  # noqa: F811
    """Fills the form of curate/manual and submits it; the id of the run that it starts."""

    def act() -> None:
        fill(open_form(ui, page, "curate/manual"))
        page.get_by_role("button", name="Submit", exact=True).click()

    return answer_to(page, "/create_flow_run", act).json()["id"]


def open_run(ui: Ui, page: Page, run: str, tab: str = "Artifacts") -> None:  # noqa: F811
    page.goto(f"{ui.server.url}/v2/runs/flow-run/{run}?tab={tab}")
    expect(page.get_by_text("Deployment").first).to_be_visible()


def open_artifact(ui: Ui, page: Page, key: str, shots: Path) -> None:  # noqa: F811
    page.goto(f"{ui.server.url}/v2/artifacts/artifact/{ui.artifact(key)['id']}")
    expect(page.get_by_text(key).first).to_be_visible()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=shots / f"{key}.png", full_page=True)


@pytest.fixture(scope="module")
def approved_run(ui: Ui, page: Page, shots: Path) -> str:  # noqa: F811
    """A run that was started from the form with 6 sentences, and approved with 4, without its first."""

    def fill(form: Form) -> None:
        form.write(str(ui.corpus), "config", "Corpus", "Path")
        form.write("6", "config", "Selection", "Budget")
        form.switch("config", "Approval", "Wanted")
        page.screenshot(path=shots / "form.png", full_page=True)

    def approve() -> None:
        open_run(ui, page, run)
        dialog = choose_from_menu(page, "Resume")
        answer = Form(dialog)
        answer.write("4", "Budget")
        answer.field("Exclude").get_by_role("button", name="Add item").click()
        answer.write("1", "Exclude")
        page.screenshot(path=shots / "approval.png")
        dialog.get_by_role("button", name="Resume", exact=True).click()

    run = start(ui, page, fill)
    ui.wait(run, "Paused")
    open_artifact(ui, page, "curate-verses-proposal", shots)
    expect(page.get_by_text("6 sentences", exact=True)).to_be_visible()
    answer_to(page, f"/{run}/resume", approve)
    assert ui.wait(run, "Completed", "Failed", "Crashed", "Cancelled") == "Completed", ui.server.log(run)
    return run


def test_the_form_has_its_fields_in_order_with_choices_as_selects_and_optional_ones_empty(ui: Ui, page: Page) -> None:  # noqa: F811
    form = open_form(ui, page, "curate/manual")
    sections = page.locator("fieldset fieldset").locator("xpath=..").locator("label").all_inner_texts()
    wanted = ["Name", "Store", "Output", "Corpus", "Model", "Selection", "Approval", "Fine-tuning", "Evaluation"]
    places = [next(i for i, text in enumerate(sections) if text.removesuffix(" (Optional)") == name) for name in wanted]
    assert places == sorted(places)
    criterion = form.field("config", "Selection", "Criterion").get_by_role("button", name="Select Criterion")
    expect(criterion).to_have_text("auto")
    expect(form.field("config", "Device").get_by_role("tab", name="empty")).to_have_attribute("aria-selected", "true")
    expect(form.field("config", "Corpus", "Path").get_by_role("tab")).to_have_text(["text", "several"])


def test_a_comparisons_form_asks_for_methods_and_budgets_before_the_deep_sections(ui: Ui, page: Page) -> None:  # noqa: F811
    form = open_form(ui, page, "compare/weekly")
    methods = form.field("config", "Methods").bounding_box()
    model = form.field("config", "Model").bounding_box()
    assert methods is not None and model is not None and methods["y"] < model["y"]
    expect(form.field("config", "Approval")).to_have_count(0)


def test_a_run_is_started_from_the_form_and_goes_on_as_it_was_approved(ui: Ui, approved_run: str) -> None:  # noqa: F811
    run = ui.server.get(f"flow_runs/{approved_run}")
    assert run["name"] == "curate-verses-6-sentences"
    assert {"verses", "information"} <= set(run["tags"])
    proposed, chosen = (json.loads(ui.artifact(f"curate-verses-{key}")["data"]) for key in ("proposed", "chosen"))
    assert len(proposed) == 6 and len(chosen) == 4
    assert proposed[0]["id"] not in {row["id"] for row in chosen}


def test_summary_tables_figures_and_progress_of_the_run_are_to_be_seen(
    ui: Ui,  # noqa: F811
    page: Page,  # noqa: F811
    approved_run: str,
    shots: Path,
) -> None:
    for key, text in (("summary", "Key numbers"), ("chosen", "gain (nats)"), ("win-rates", "Win rate [interval]")):
        open_artifact(ui, page, f"curate-verses-{key}", shots)
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    open_artifact(ui, page, "curate-verses-figures", shots)
    expect(page.locator("img[src^='data:image']").first).to_be_visible()
    widths = page.eval_on_selector_all("img[src^='data:image']", "images => images.map(image => image.naturalWidth)")
    assert len(widths) >= 5 and all(widths)
    open_artifact(ui, page, "curate-verses-report", shots)
    expect(page.get_by_text("report/index.html").first).to_be_visible()
    open_run(ui, page, approved_run)
    expect(page.get_by_text(re.compile("^progress$", re.IGNORECASE)).first).to_be_visible()
    page.screenshot(path=shots / "run.png", full_page=True)
    of_run = ui.server.artifacts(approved_run)
    progress = {
        artifact["description"].split(":")[0]: artifact["data"] for artifact in of_run if artifact["type"] == "progress"
    }
    wanted = ("embedding shard 1 of 2", "selecting by information gain", "fine-tuning on information gain")
    assert [progress[what] for what in wanted] == [100.0] * 3


def test_a_run_that_waits_for_approval_is_cancelled(ui: Ui, page: Page, approved_run: str) -> None:  # noqa: F811
    run = ui.start(approval={"wanted": True}, selection={"budget": 5, "budget_unit": "sentences"})
    ui.wait(run, "Paused")

    def cancel() -> None:
        open_run(ui, page, run)
        choose_from_menu(page, "Cancel").get_by_role("button", name="Cancel Flow Run").click()

    answer_to(page, f"/{run}/set_state", cancel)
    ui.wait(run, "Cancelled")


def test_settings_that_do_not_go_together_are_refused_with_one_line(ui: Ui, page: Page, shots: Path) -> None:  # noqa: F811

    def fill(form: Form) -> None:
        form.write(str(ui.corpus), "config", "Corpus", "Path")
        form.choose("v-optimal", "config", "Selection", "Criterion")

    run = start(ui, page, fill)
    ui.wait(run, "Failed")
    message = ui.server.get(f"flow_runs/{run}")["state"]["message"]
    assert message.endswith(
        "criterion v-optimal needs a target, a sample of what the model will be used on; name one in `target`"
    )
    assert "\n" not in message and "Traceback" not in ui.server.log(run)
    open_run(ui, page, run, "Details")
    expect(page.get_by_text("criterion v-optimal needs a target").first).to_be_visible()
    page.screenshot(path=shots / "refused.png")
