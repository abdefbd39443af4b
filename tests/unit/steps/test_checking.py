"""What a run is told once every row has been checked, and what ends it before anything is embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.checking import check_corpora, reading_in_words, tokens_in_words
from fishersft.steps.corpus import read_corpus, read_target
from fishersft.steps.evaluation import complete_prompts
from fishersft.steps.tokens import TokenCounts
from tests.conftest import CHAT_TEMPLATE
from tests.selected import write_rows

NOTHING_READ: dict[str, Any] = {"formats": {}, "passed_over": [], "bad": 0, "bad_rows": []}


def config_of(tmp_path: Path, model: Path, rows: list[dict[str, Any]], **sections: Any) -> CurateConfig:
    values = {
        "corpus": {"path": str(write_rows(tmp_path / "d.jsonl", rows)), "held_out_fraction": 0.3},
        "model": {"path": str(model)},
        "store": str(tmp_path / "store"),
        **sections,
    }
    return CurateConfig.model_validate(values)


def verses(begin: str = "May") -> list[dict[str, Any]]:
    return [{"text": f"{begin} {n}"} for n in range(20)]


def long_prompts() -> list[dict[str, Any]]:
    return [{"prompt": f"{n} " + "May " * 80, "completion": "day"} for n in range(20)]


def test_how_a_corpus_was_read_is_a_line_each() -> None:
    facts = {
        "formats": {"text (text)": 1, "messages (role/content)": 2_000},
        "passed_over": [f"{n}.pdf" for n in range(7)],
        "bad": 1,
        "bad_rows": ["d.jsonl:3 is not JSON"],
    }
    assert reading_in_words(facts) == [
        "1 row read as text (text)",
        "2,000 rows read as messages (role/content)",
        "Not read, as their format is unknown: 0.pdf, 1.pdf, 2.pdf, 3.pdf, 4.pdf and 2 more files",
        "1 bad row skipped:",
        "d.jsonl:3 is not JSON",
    ]
    assert reading_in_words(NOTHING_READ) == []


def test_no_row_is_told_of_twice() -> None:
    counts = TokenCounts(
        rows=10, tokens=1_234, cut=4, lost=2, without_loss=6, bad=3, held_out_bad=1, bad_rows=["d.jsonl:3: why"]
    )
    assert tokens_in_words(counts, most=2_048) == [
        "1,234 tokens to learn from in 10 rows",
        "4 rows cut at 2,048 tokens; 2 of them lost every token to learn from and cannot be chosen",
        "1 row without a token to learn from cannot be chosen",
        "4 rows cannot be tokenised and were skipped (1 held out):",
        "d.jsonl:3: why",
    ]
    assert tokens_in_words(TokenCounts(rows=1, tokens=5), most=8) == ["5 tokens to learn from in 1 row"]


def test_a_template_that_prints_the_date_is_told_of(tmp_path: Path, tiny_model_folder: Path) -> None:
    template = tmp_path / "dated.jinja"
    template.write_text("<|system|>{{ strftime_now('%d %b %Y') }}<|end|>" + CHAT_TEMPLATE)
    rows = [
        {"messages": [{"role": "user", "content": f"May {n}"}, {"role": "assistant", "content": "day"}]}
        for n in range(20)
    ]
    config = config_of(tmp_path, tiny_model_folder, rows)
    line = "The chat template prints the date: it is rendered as 26 Jul 2024, whatever the day"
    store = Store(config.store)
    assert line not in check_corpora(store, config, read_corpus(store, config))
    dated = config.model_copy(update={"corpus": config.corpus.model_copy(update={"chat_template": str(template)})})
    assert line in check_corpora(store, dated, read_corpus(store, dated))


def test_a_corpus_that_loses_every_token_to_learn_from_is_an_error(tmp_path: Path, tiny_model_folder: Path) -> None:
    config = config_of(tmp_path, tiny_model_folder, long_prompts())
    config = config.model_copy(update={"model": config.model.model_copy(update={"max_tokens": 16})})
    store = Store(config.store)
    message = (
        r"^corpus has no token to learn from in its \d+ rows: \d+ lost every such token when they were cut at 16 "
        r"tokens; raise model\.max_tokens"
    )
    with pytest.raises(InputError, match=message):
        check_corpora(store, config, read_corpus(store, config))


def test_so_is_a_target_that_does(tmp_path: Path, tiny_model_folder: Path) -> None:
    target = write_rows(tmp_path / "target.jsonl", long_prompts())
    aim = {"selection": {"criterion": "v-optimal"}, "target": {"path": str(target)}}
    config = config_of(tmp_path, tiny_model_folder, verses(), **aim)
    store = Store(config.store)
    with pytest.raises(InputError, match=r"^target has no token to learn from in its 20 rows"):
        check_corpora(store, config, read_corpus(store, config), read_target(store, config))


def test_so_is_what_is_measured_on_where_anything_is_measured(tmp_path: Path, tiny_model_folder: Path) -> None:
    measured = write_rows(tmp_path / "measured.jsonl", long_prompts())
    config = config_of(tmp_path, tiny_model_folder, verses(), evaluation={"corpus": {"path": str(measured)}})
    store = Store(config.store)
    corpus = read_corpus(store, config)
    assert check_corpora(store, config, corpus)[0] == "20 rows read as text (text)"
    with pytest.raises(InputError, match=r"^evaluation\.corpus has no token to learn from in its 20 rows"):
        check_corpora(store, config, corpus, evaluated=True)


@pytest.mark.parametrize("on_bad_row", ["stop", "skip"])
def test_a_template_that_renders_nothing_is_one_error_and_blames_no_row(
    tmp_path: Path, tiny_model_folder: Path, on_bad_row: str
) -> None:
    template = tmp_path / "never.jinja"
    template.write_text("{{ raise_exception('never') }}")
    rows = [{"messages": [{"role": "assistant", "content": f"May {n}"}]} for n in range(20)]
    config = config_of(tmp_path, tiny_model_folder, rows)
    settings = {"chat_template": str(template), "on_bad_row": on_bad_row}
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update=settings)})
    store = Store(config.store)
    with pytest.raises(
        InputError, match=r"^the chat template does not render a conversation of plain text: never; set"
    ):
        check_corpora(store, config, read_corpus(store, config))


def test_a_corpus_whose_rows_are_all_bad_names_the_first(tmp_path: Path, tiny_model_folder: Path) -> None:
    template = tmp_path / "may.jinja"
    template.write_text(
        "{% for m in messages %}{% if m.content.startswith('May') %}{{ raise_exception('no May') }}{% endif %}"
        "{{ m.content }}{% endfor %}"
    )
    rows = [{"messages": [{"role": "assistant", "content": f"May {n}"}]} for n in range(20)]
    config = config_of(tmp_path, tiny_model_folder, rows)
    settings = {"chat_template": str(template), "on_bad_row": "skip"}
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update=settings)})
    store = Store(config.store)
    with pytest.raises(
        InputError, match=r"^corpus has no token to learn .*cannot be tokenised, first: .*d\.jsonl:\d+: .*no May"
    ):
        check_corpora(store, config, read_corpus(store, config))


def test_a_held_out_row_that_is_skipped_gives_no_prompt(tmp_path: Path, tiny_model_folder: Path) -> None:
    template = tmp_path / "never-no.jinja"
    template.write_text("{% if 'no' in messages[0].content %}{{ raise_exception('no') }}{% endif %}" + CHAT_TEMPLATE)
    rows = [
        {"messages": [{"role": "user", "content": f"{asked} {n}"}, {"role": "assistant", "content": "day"}]}
        for n in range(20)
        for asked in ("no", "May")
    ]
    config = config_of(tmp_path, tiny_model_folder, rows, evaluation={"prompts": 40, "new_tokens": 2})
    settings = {"chat_template": str(template), "on_bad_row": "skip"}
    config = config.model_copy(update={"corpus": config.corpus.model_copy(update=settings)})
    store = Store(config.store)
    corpus = read_corpus(store, config)
    check_corpora(store, config, corpus)
    done = complete_prompts(store, config, corpus.key, None)
    assert 0 < done.facts["prompts"] < corpus.facts["held_out"]
