"""The page: self-contained, complete, and inert whatever the corpus holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest

from fishersft.reporting.page import render_html
from fishersft.reporting.summary import RunReport

ALLOWED_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "article", "div"),
    *("h1", "h2", "p", "b", "em", "span", "bdi", "a", "ul", "ol", "li", "dl", "dt", "dd", "pre", "details"),
    *("summary", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "figure", "img", "figcaption"),
}
VOID_TAGS = {"meta", "img"}


class Page(HTMLParser):
    """Collects the tags, attributes and visible text; checks that every tag closes in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


@pytest.fixture(scope="module")
def html(report: RunReport) -> str:
    return render_html(report)


@pytest.fixture(scope="module")
def hostile_html(hostile_report: RunReport) -> str:
    return render_html(hostile_report)


@pytest.mark.parametrize("which", ["html", "hostile_html"])
def test_the_page_asks_for_nothing_outside_itself(request: pytest.FixtureRequest, which: str) -> None:
    html = request.getfixturevalue(which)
    page = Page(html)
    sources, targets = page.attributes("src"), page.attributes("href")
    assert len(sources) == 6
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert targets
    assert all(target.startswith("#") for target in targets)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize("which", ["html", "hostile_html"])
def test_the_page_forbids_scripts_and_requests(request: pytest.FixtureRequest, which: str) -> None:
    page = Page(request.getfixturevalue(which))
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


@pytest.mark.parametrize("which", ["html", "hostile_html"])
def test_the_page_holds_only_the_templates_own_tags(request: pytest.FixtureRequest, which: str) -> None:
    page = Page(request.getfixturevalue(which))
    assert {tag for tag, _ in page.tags} <= ALLOWED_TAGS
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]


def test_hostile_text_is_shown_as_it_stands(hostile_html: str) -> None:
    text = Page(hostile_html).text
    assert text.count("<script>document.title = 'owned'</script></pre></div><img src=x onerror=alert(1)>") >= 8
    assert "{{ 7 * 7 }}" in text
    assert "w" * 5000 in text


def test_control_characters_are_shown_not_obeyed(hostile_html: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", hostile_html)
    assert "[U+202E]gnirts[U+202C]" in hostile_html
    assert "[U+0000][U+001B][31m[U+0085]" in hostile_html


def test_foreign_blocks_choose_their_own_direction(html: str, report: RunReport) -> None:
    page = Page(html)
    texts = [attrs for tag, attrs in page.tags if tag == "div" and attrs.get("class") == "text"]
    completions = sum(1 + len(item.completions) for item in report.completions)
    assert len(texts) == len(report.chosen) + completions
    assert all(attrs["dir"] == "auto" for attrs in texts)


def test_every_figure_says_in_words_what_it_shows(html: str) -> None:
    alts = [attrs["alt"] for tag, attrs in Page(html).tags if tag == "img"]
    assert len(alts) == len(set(alts)) == 6
    assert all(alt and len(alt) > 40 for alt in alts)


def test_the_reader_meets_the_verdict_first_and_the_details_after(html: str, report: RunReport) -> None:
    headings = re.findall(r"<h[12][^>]*>(.*?)</h[12]>", html)
    assert headings == [
        *(report.headline, "Key numbers", "Was it better?", "What the judge preferred", "The judges"),
        "Figures",
        *("What was chosen", "Lengths", "Completions side by side", "The corpus", "What it cost", "Terms"),
        *("Exact configuration", "Versions"),
    ]
    assert all(warning in html[: html.index("Key numbers")] for warning in report.warnings)


def test_every_comparison_names_its_budget(html: str, report: RunReport) -> None:
    text = Page(html).text
    tokens = [f"{training.tokens_per_epoch:,}" for training in report.trainings]
    assert text.count(f"equal tokens ({tokens[0]} and {tokens[1]} an epoch)") == 2  # perplexity and win rate
    assert text.count("no common budget: base not fine-tuned") == 1


def test_the_numbers_of_the_report_are_on_the_page(html: str) -> None:
    text = Page(html).text
    for number in ("121.5 [112.9, 130.6]", "6.437", "1.103 [1.071, 1.134]", "7, 9, 16", "0.70 [0.58, 0.80]"):
        assert number in text
    for number in ("3,412", "147", "212", "548.5", "354", "macbeth.md:17", "regularization: 1.0", "5.23.0"):
        assert number in text


def test_every_judge_is_on_the_page_with_its_calibration_and_its_agreement(html: str) -> None:
    text = Page(html).text
    for cell in ("0.56 [0.33, 0.77]", "unfit", "judge-large at https://judges.example/v1", "fit", "0.32", "0.0417"):
        assert cell in text


def test_a_report_of_a_selection_alone_leaves_the_other_sections_out(
    make_report: Callable[..., RunReport],
) -> None:
    empty = {"trainings": [], "likelihoods": [], "comparisons": [], "win_rates": [], "judges": [], "completions": []}
    html = render_html(make_report(**empty, costs=[], warnings=[], chosen=[]))
    Page(html)
    for heading in (
        "Was it better?",
        "What the judge preferred",
        "The judges",
        "Completions",
        "What it cost",
        "What was chosen",
    ):
        assert f"<h2>{heading}" not in html
    assert "Key numbers" in html


def test_identical_pairs_are_explained_only_where_there_are_some(
    make_report: Callable[..., RunReport], html: str
) -> None:
    item = make_report().win_rates[0].model_copy(update={"identical": 3})
    explained = render_html(make_report(win_rates=[item]))
    assert "<dt>Identical</dt>" in explained
    assert 'data-label="Identical">3</td>' in explained
    assert "Identical" not in html


def test_the_same_report_gives_the_same_page(make_report: Callable[..., RunReport], html: str) -> None:
    assert render_html(make_report()) == html
