"""`fishersft corpus`: how a corpus was read, its counts, and three examples with what the loss counts; no weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fishersft import terminal
from tests.chat_models import chat_tokenizer, save_model
from tests.selected import config_for, run, write_rows


@pytest.fixture
def chat_model(tmp_path: Path) -> Path:
    """A model with Qwen's template and without weights, which nothing here needs."""
    folder = save_model(tmp_path / "qwen", chat_tokenizer("qwen2_5"))
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    return folder


def conversation(n: int, answer: str = "Because.", **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"Why {n}?"}, {"role": "assistant", "content": answer, **more}],
    }


def rows_of(printed: str) -> dict[str, int]:
    """The table."""
    found = re.findall(r"│ +(\S[^│]*?) +│ +([\d,]+) +│", printed)
    return {what: int(number.replace(",", "")) for what, number in found}


def test_it_prints_the_format_the_counts_and_three_examples(tmp_path: Path, chat_model: Path) -> None:
    rows = [conversation(n % 30) for n in range(40)]
    printed = run("corpus", config_for(tmp_path, chat_model, write_rows(tmp_path / "d.jsonl", rows)))
    assert "40 rows read as messages (role/content)" in printed
    table = rows_of(printed)
    assert table["read"] == 40 and table["exact duplicates"] == 10
    assert table["held out"] + table["to choose from"] == 30
    titles = re.findall(r"d\.jsonl:(\d+), (\d+) of (\d+) tokens count", printed)
    assert len(titles) == 3 and all(0 < int(counted) < int(all_) for _, counted, all_ in titles)
    assert printed.count("Because.<|im_end|>") == 3
    assert not (tmp_path / "store" / "embeddings").exists()


def test_bad_rows_are_counted_once_where_they_are(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "gemma", chat_tokenizer("gemma", bos_token="<s>"))
    rows = [conversation(n) for n in range(40)]
    for n in range(0, 40, 4):
        rows[n]["messages"].insert(0, {"role": "user", "content": "twice"})
    file = write_rows(tmp_path / "d.jsonl", rows)
    with file.open("a") as more:
        more.write("{broken\n{broken\n\n")
    printed = run("corpus", config_for(tmp_path, folder, file, on_bad_row="skip"))
    table = rows_of(printed)
    assert table["read"] == 43 and table["bad, skipped"] == 2
    assert table["blank, or nothing that the loss counts"] == 1
    assert table["held out"] + table["to choose from"] == 40
    assert "2 bad rows skipped:" in printed
    assert re.search(r"^10 rows cannot be tokenised and were skipped( \(\d held out\))?:$", printed, re.MULTILINE)
    assert "without a token to learn from" not in printed


def test_a_long_row_shows_what_the_loss_counts_at_its_end(tmp_path: Path, chat_model: Path) -> None:
    rows = [conversation(n, f"Because {n}.") for n in range(40)]
    for row in rows:
        row["messages"].insert(0, {"role": "system", "content": "Be kind. " * 100})
    printed = run("corpus", config_for(tmp_path, chat_model, write_rows(tmp_path / "d.jsonl", rows)))
    assert len(re.findall(r"Because \d+\.<\|im_end\|>", printed)) == 3
    assert re.search(r" … [\d,]+ tokens … ", printed) and "more tokens" not in printed


def test_hostile_text_acts_neither_on_the_terminal_nor_as_markup(tmp_path: Path, chat_model: Path) -> None:
    rows = [conversation(n, "\x1b[31m[bold]x[/bold] [/] \x1b]0;title\x07 <b>") for n in range(40)]
    printed = run("corpus", config_for(tmp_path, chat_model, write_rows(tmp_path / "d.jsonl", rows)))
    assert "\x1b" not in printed and "\x07" not in printed
    assert "[U+001B][31m[bold]x[/bold] [/] [U+001B]]0;title[U+0007] <b>" in printed


def test_what_the_loss_counts_is_green(
    tmp_path: Path, chat_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fishersft.corpus_cli import corpus

    monkeypatch.setattr(terminal, "console", Console(width=200, force_terminal=True, color_system="standard"))
    file = write_rows(tmp_path / "d.jsonl", [conversation(n) for n in range(40)])
    corpus([config_for(tmp_path, chat_model, file)])
    printed = capsys.readouterr().out
    assert "\x1b[1;32mBecause.<|im_end|>" in printed
    assert re.search(r"\x1b\[90mWhy \d+\?|\x1b\[90m<\|im_start\|>user", printed)
