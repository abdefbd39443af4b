"""What one run did: found or made, and what is new since the run before."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fishersft.config import CurateConfig, SelectionConfig
from fishersft.data.runs import Run, RunRecord, last_finished, recorded_run
from fishersft.data.store import Store
from fishersft.reporting.summary import Growth
from fishersft.steps.conditions import extending_previous
from fishersft.steps.corpus import load_index, read_corpus, shard_rows
from fishersft.steps.outcome import Outcome
from fishersft.steps.this_run import describe_run, report_of_the_same, settings_digest

TOKENS_A_ROW = 3
KEY = "a" * 64


@pytest.fixture
def config(tmp_path: Path) -> CurateConfig:
    settings = {
        "corpus": {"path": str(tmp_path / "lines.txt"), "held_out_fraction": 0.05},
        "embedding": {"shard_rows": 16},
    }
    return CurateConfig.model_validate(settings)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def read(store: Store, config: CurateConfig, lines: list[str]) -> tuple[str, list[Outcome]]:
    """The corpus of these lines, and outcomes as embedding its shards would give."""
    Path(str(config.corpus.path)).write_text("\n".join(lines) + "\n", encoding="utf-8")
    corpus = read_corpus(store, config).key
    sizes = {shard: len(shard_rows(store, shard)) for shard in load_index(store, corpus).shards}
    facts = [{"sentences": size, "tokens": TOKENS_A_ROW * size} for size in sizes.values()]
    return corpus, [Outcome("embeddings", KEY, True, 2.0, each) for each in facts]


def record(**facts: str) -> RunRecord:
    started = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    return RunRecord(id="20261122T030000Z-abcdef", name="x", state="finished", host="h", started=started, facts=facts)


def growth(store: Store, corpus: str, embedded: list[Outcome], before: str) -> Growth:
    grown = describe_run(store, [], corpus, embedded, record(corpus=before)).growth
    assert grown is not None
    return grown


def pool(store: Store, corpus: str) -> int:
    return sum(len(shard_rows(store, shard)) for shard in load_index(store, corpus).shards)


def test_an_unchanged_corpus_has_nothing_new(store: Store, config: CurateConfig) -> None:
    corpus, embedded = read(store, config, [f"line {i}" for i in range(200)])
    grown = growth(store, corpus, embedded, corpus)
    assert (grown.sentences_new, grown.sentences_removed, grown.shards_new, grown.shards_dropped) == (0, 0, 0, 0)
    assert grown.sentences_kept == pool(store, corpus)
    assert (grown.tokens_new, grown.tokens_reused) == (0, TOKENS_A_ROW * pool(store, corpus))
    assert grown.since == "2026-11-22T03:00+00:00"


def test_new_and_removed_rows_are_counted_and_the_shards_they_touch(store: Store, config: CurateConfig) -> None:
    lines = [f"line {i}" for i in range(200)]
    before, _ = read(store, config, lines)
    after, embedded = read(store, config, [*lines[1:], "a new line", "another new line"])
    grown = growth(store, after, embedded, before)
    held_out_or_not = pool(store, after) - pool(store, before)
    assert grown.sentences_new - grown.sentences_removed == held_out_or_not
    assert grown.sentences_new <= 2 and grown.sentences_removed <= 1
    assert grown.sentences_kept + grown.sentences_new == pool(store, after)
    assert 0 < grown.shards_new <= 3 and grown.shards_reused > 3
    assert grown.tokens_new + grown.tokens_reused == TOKENS_A_ROW * pool(store, after)


def test_without_a_run_before_or_its_corpus_nothing_is_said_of_growth(store: Store, config: CurateConfig) -> None:
    corpus, embedded = read(store, config, [f"line {i}" for i in range(60)])
    for previous in (None, record(), record(corpus="b" * 64)):
        assert describe_run(store, [], corpus, embedded, previous).growth is None


def test_where_a_dropped_shard_is_gone_from_the_store_nothing_is_said_of_growth(
    store: Store, config: CurateConfig
) -> None:
    lines = [f"line {i}" for i in range(60)]
    before, _ = read(store, config, lines)
    after, embedded = read(store, config, [f"new {line}" for line in lines])
    dropped, *_ = set(load_index(store, before).shards) - set(load_index(store, after).shards)
    store.files.remove([f"shard/{dropped}/manifest.json"])
    assert describe_run(store, [], after, embedded, record(corpus=before)).growth is None


def test_found_and_made_are_counted_by_kind_with_their_seconds(store: Store, config: CurateConfig) -> None:
    corpus, embedded = read(store, config, [f"line {i}" for i in range(60)])
    steps = [
        Outcome("shard", KEY, False, 1.5, {}),
        Outcome("shard", KEY, True, 2.0, {}),
        Outcome("shard", KEY, True, 3.0, {}),
        Outcome("selection", KEY, False, 4.0, {}),
    ]
    shards, selection = describe_run(store, steps, corpus, embedded, None).uses
    assert (shards.kind, shards.found, shards.made, shards.seconds_made, shards.seconds_saved) == (
        "shard", 2, 1, 1.5, 5.0
    )  # fmt: skip
    assert (selection.kind, selection.found, selection.made, selection.seconds_saved) == ("selection", 0, 1, 0)


def test_extending_the_previous_run_means_its_selection_and_nothing_where_there_is_none(config: CurateConfig) -> None:
    asked = config.model_copy(update={"selection": config.selection.model_copy(update={"extends": "previous"})})
    assert extending_previous(asked, record(selection=KEY)).selection.extends == KEY
    assert extending_previous(asked, None).selection.extends is None
    assert extending_previous(asked, record()).selection.extends is None
    assert extending_previous(config, record(selection=KEY)) == config


def unchanged(store: Store, config: CurateConfig, corpus: str, previous: RunRecord | None) -> tuple[str | None, Run]:
    """The report that stands, and the run that looked for it."""
    with recorded_run(store, "x") as run:
        return report_of_the_same(config, corpus, run, previous), run


def test_a_run_that_would_go_on_from_the_one_before_over_the_same_corpus_leaves_it_at_its_report(
    store: Store, config: CurateConfig
) -> None:
    growing = config.model_copy(update={"selection": SelectionConfig(extends="previous")})
    facts = {"corpus": KEY, "selection": "a" * 64, "report": "b" * 64, "settings": settings_digest(growing)}
    before = record(**facts).model_copy(update={"roots": [f"selection/{'a' * 64}", f"report/{'b' * 64}"]})
    report, run = unchanged(store, growing, KEY, before)
    assert report == "b" * 64
    again = last_finished(store, "x")
    assert again is not None and again.id == run.id
    assert (again.facts, again.roots, again.made) == (facts, before.roots, 0), "gc keeps what it stands for"


def test_whatever_is_new_is_reason_to_run(store: Store, config: CurateConfig) -> None:
    growing = config.model_copy(update={"selection": SelectionConfig(extends="previous")})
    facts = {"corpus": KEY, "report": "b" * 64, "settings": settings_digest(growing)}
    larger = growing.model_copy(update={"selection": SelectionConfig(extends="previous", budget=7)})
    assert unchanged(store, growing, "c" * 64, record(**facts))[0] is None  # another corpus
    assert unchanged(store, larger, KEY, record(**facts))[0] is None  # other settings
    assert unchanged(store, growing, KEY, None)[0] is None  # the first run
    assert unchanged(store, growing, KEY, record(corpus=KEY))[0] is None  # one of an earlier version
    once = {**facts, "settings": settings_digest(config)}
    assert unchanged(store, config, KEY, record(**once))[0] is None  # each run stands for itself
