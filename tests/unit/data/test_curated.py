"""The curated dataset holds the rows as they came in, loads everywhere, and its card survives any name."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from fishersft.config import CurateConfig
from fishersft.data.card import CardFacts
from fishersft.data.curated import write_curated

ROWS: list[dict[str, Any]] = [
    {"speaker": "HAMLET", "text": "To be,\nor not to be — 😀", "act": 3, "tags": ["a", None]},
    {"speaker": None, "text": "Nay", "act": 1, "tags": []},
]


def facts(**corpus: Any) -> CardFacts:
    config = CurateConfig(name="hamlet", corpus={"path": "data/*.jsonl"} | corpus)
    return CardFacts(config=config, pool_sentences=1234, information_gain=56.789, version="0.1.0")


def write(folder: Path, rows: list[dict[str, Any]], card: CardFacts | None = None) -> str:
    """Writes the dataset and returns its card."""
    count = len(rows)
    write_curated(
        folder,
        rows,
        ranks=list(range(1, count + 1)),
        gains=[10.0 / rank for rank in range(1, count + 1)],
        tokens=[5] * count,
        card=card or facts(),
    )
    return (folder / "README.md").read_text(encoding="utf-8")


def parquet_of(folder: Path) -> list[dict[str, Any]]:
    return pq.read_table(folder / "curated.parquet").to_pylist()


def jsonl_of(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "curated.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def blocks_of(card: str, language: str) -> list[tuple[str, str]]:
    return re.findall(rf"^(`{{3,}}){language}\n(.*?)\n\1$", card, re.DOTALL | re.MULTILINE)


def code_in(card: str, language: str) -> str:
    return "\n".join(body for _, body in blocks_of(card, language))


def test_rows_come_out_as_they_came_in_with_rank_gain_and_tokens(tmp_path: Path) -> None:
    write(tmp_path / "made" / "for it", ROWS)
    added = [
        {"fishersft_rank": 1, "fishersft_gain": 10.0, "fishersft_tokens": 5},
        {"fishersft_rank": 2, "fishersft_gain": 5.0, "fishersft_tokens": 5},
    ]
    expected = [{**row, **more} for row, more in zip(ROWS, added, strict=True)]
    assert parquet_of(tmp_path / "made" / "for it") == expected
    assert jsonl_of(tmp_path / "made" / "for it") == expected


def test_lengths_that_differ_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zip"):
        write_curated(tmp_path, ROWS, ranks=[1], gains=[1.0], tokens=[1], card=facts())


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The datasets library without network, its cache in the test's folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


def test_load_dataset_reads_the_folder(offline: Any, tmp_path: Path) -> None:
    write(tmp_path / "out", ROWS)
    splits = offline.load_dataset(str(tmp_path / "out"))
    assert list(splits) == ["train"]
    assert splits["train"].to_list() == parquet_of(tmp_path / "out")


def test_load_dataset_gives_the_new_rows_after_the_folder_was_written_anew(offline: Any, tmp_path: Path) -> None:
    for rows in (ROWS, [{"text": "other"}], ROWS[:1]):
        write(tmp_path / "out", rows)
        data = offline.load_dataset(str(tmp_path / "out"), split="train")
        assert data.to_list() == parquet_of(tmp_path / "out")


def test_load_dataset_reads_the_jsonl(offline: Any, tmp_path: Path) -> None:
    write(tmp_path / "out", ROWS)
    data = offline.load_dataset("json", data_files=str(tmp_path / "out" / "curated.jsonl"), split="train")
    assert data.to_list() == jsonl_of(tmp_path / "out")


AWKWARD: list[dict[str, Any]] = [
    {
        "text": "x",
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "name": "c"}],
        "when": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": date(2024, 1, 2),
        "clock": time(3, 4, 5),
        "span": timedelta(seconds=90),
        "price": Decimal("1.50"),
        "raw": b"\x00\xff",
        "ratio": math.nan,
        "half": 1,
        "mixed": 1,
        "text_or_bytes": "a",
        "huge": 2**70,
        "empty": {},
        "nested": [{"a": {}}],
        "nothing": None,
        "flag": True,
    },
    {
        "text": "y",
        "half": 0.5,
        "mixed": "one",
        "text_or_bytes": b"a",
        "huge": 1,
        "flag": 1,
        "only here": "z",
    },
]


def test_what_arrow_would_change_is_json_in_parquet_and_the_card_says_so(tmp_path: Path) -> None:
    card = write(tmp_path, AWKWARD)
    first, second = parquet_of(tmp_path)
    as_json = ["mixed", "text_or_bytes", "huge", "empty", "nested", "flag"]
    assert f"strings, as in `curated.jsonl`: {', '.join(f'`{name}`' for name in as_json)}." in card
    assert [first[name] for name in as_json] == ["1", '"a"', str(2**70), "{}", '[{"a": {}}]', "true"]
    assert [second[name] for name in as_json] == ['"one"', '"YQ=="', "1", None, None, "1"]
    kept = ["text", "when", "day", "clock", "span", "price", "raw", "half", "nothing"]
    assert [first[name] for name in kept] == [AWKWARD[0][name] for name in kept]
    assert math.isnan(first["ratio"])
    assert first["messages"][0] == {"role": "user", "content": "a", "name": None}
    assert (second["half"], second["only here"], first["only here"]) == (0.5, "z", None)


def test_jsonl_keeps_exact_values_and_types_that_json_lacks_as_text(tmp_path: Path) -> None:
    write(tmp_path, AWKWARD)
    first, second = jsonl_of(tmp_path)
    assert first["messages"] == AWKWARD[0]["messages"]
    assert (first["huge"], first["flag"], second["flag"]) == (2**70, True, 1)
    assert (first["when"], first["day"], first["clock"]) == (
        "2024-01-02T03:04:05+00:00",
        "2024-01-02",
        "03:04:05",
    )
    assert (first["span"], first["price"], first["raw"], first["ratio"]) == (90.0, "1.50", "AP8=", None)
    assert set(second) == set(AWKWARD[1]) | {"fishersft_rank", "fishersft_gain", "fishersft_tokens"}


def test_awkward_columns_still_load(offline: Any, tmp_path: Path) -> None:
    write(tmp_path / "out", AWKWARD)
    data = offline.load_dataset(str(tmp_path / "out"), split="train")
    assert data.num_rows == 2
    assert data[0]["messages"][1] == {"role": "assistant", "content": "b", "name": "c"}


def test_uuids_become_text_that_datasets_can_load(offline: Any, tmp_path: Path) -> None:
    uuid = pytest.importorskip("uuid")
    write(tmp_path / "out", [{"text": "x", "id": uuid.UUID(int=7)}])
    data = offline.load_dataset(str(tmp_path / "out"), split="train")
    assert str(uuid.UUID(int=7)) in data[0]["id"]


def test_the_card_tells_how_the_rows_were_chosen(tmp_path: Path) -> None:
    card = write(tmp_path, ROWS)
    assert "\n# hamlet\n" in card
    assert "2 of 1,234 sentences of `data/*.jsonl`" in card
    assert "56.79 nats" in card
    assert "the corpus's own licence applies" in card
    matter = yaml.safe_load(card.split("---")[1])
    assert matter["configs"] == [{"config_name": "default", "data_files": "curated.parquet"}]
    assert matter["size_categories"] == ["n<1K"]


def test_the_card_shows_no_credentials(tmp_path: Path) -> None:
    card_facts = facts()
    # A configuration refuses such paths by itself: the card must not rely on it.
    paths = ["ftp://user:secret@host/a.txt", "https://host/b.txt?token=secret"]
    corpus = card_facts.config.corpus.model_copy(update={"path": paths})
    config = card_facts.config.model_copy(update={"corpus": corpus})
    card = write(tmp_path, ROWS, dataclasses.replace(card_facts, config=config))
    assert "secret" not in card
    assert "`ftp://host/a.txt`, `https://host/b.txt`" in card


def run_trl_snippet(
    card: str, folder: Path, *, upto: str, without: str | None = None, model: Path | None = None, config: Any = None
) -> dict[str, Any]:
    """Runs the card's second Python block, with real places in it, up to a line; returns its names."""
    snippet = blocks_of(card, "python")[1][1].split(f"\n{upto}")[0]
    snippet = snippet.replace("path/to/this/folder", str(folder)).replace("your/model", str(model))
    snippet = snippet.replace('SFTConfig("trained")', "config")
    kept = [line for line in snippet.split("\n") if without is None or not line.startswith(without)]
    names: dict[str, Any] = {"config": config}
    exec("\n".join(kept), names)
    return names


@pytest.mark.parametrize(
    ("corpus", "row"),
    [
        ({"example": "text", "text_field": "speech"}, {"speech": "x", "text": 1}),
        ({"example": "text"}, {"text": "x", "prompt": "y"}),
        (
            {"example": "prompt-completion", "prompt_field": "question", "completion_field": "answer"},
            {"question": "x", "answer": "y"},
        ),
        (
            {"example": "messages", "messages_field": "chat"},
            {"chat": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        ),
    ],
)
def test_the_snippet_for_trl_gives_trls_own_columns(
    offline: Any, tmp_path: Path, corpus: dict[str, str], row: dict[str, Any]
) -> None:
    card = write(tmp_path / "out", [row, row], facts(**corpus))
    dataset = run_trl_snippet(card, tmp_path / "out", upto="trainer =", without="from trl")["dataset"]
    assert dataset.column_names == (["text"] if corpus["example"] == "text" else ["prompt", "completion"])
    assert dataset.num_rows == 2


SHAREGPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]
ASKED = [{"role": "user", "content": "a"}]
ANSWERED = [{"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "x", "id": 1}, {"text": "x"}),
        ({"prompt": "a", "completion": "b", "id": 1}, {"prompt": "a", "completion": "b"}),
        ({"messages": [*ASKED, *ANSWERED]}, {"prompt": ASKED, "completion": ANSWERED}),
        ({"conversations": SHAREGPT}, {"prompt": ASKED, "completion": ANSWERED}),
        (
            {"conversations": SHAREGPT, "system": "s"},
            {"prompt": [{"role": "system", "content": "s"}, *ASKED], "completion": ANSWERED},
        ),
        ({"instruction": "a", "input": "", "output": "b"}, {"prompt": ASKED, "completion": ANSWERED}),
        (
            {"instruction": "a", "context": "c", "response": "b"},
            {"prompt": [{"role": "user", "content": "a\n\nc"}], "completion": ANSWERED},
        ),
    ],
)
def test_the_snippet_for_trl_fits_the_format_that_was_found(
    offline: Any, tmp_path: Path, row: dict[str, Any], expected: dict[str, Any]
) -> None:
    card = write(tmp_path / "out", [row, row])
    dataset = run_trl_snippet(card, tmp_path / "out", upto="trainer =", without="from trl")["dataset"]
    assert dataset.to_list() == [expected, expected]
    axolotl = yaml.safe_load(code_in(card, "yaml"))["datasets"][0]
    factory = json.loads(code_in(card, "json"))["hamlet"]
    named = {axolotl.get("field"), axolotl.get("field_messages"), *factory["columns"].values()}
    assert named - {None} <= {*row, "input", "context"}


def test_the_snippet_for_trl_keeps_the_input_of_an_instruction(offline: Any, tmp_path: Path) -> None:
    row = {"instruction": "a", "input": "c", "output": "b"}
    corpus = {"example": "prompt-completion", "prompt_field": "instruction", "completion_field": "output"}
    card = write(tmp_path / "out", [row], facts(**corpus))
    dataset = run_trl_snippet(card, tmp_path / "out", upto="trainer =", without="from trl")["dataset"]
    assert dataset.to_list() == [{"prompt": "a\n\nc", "completion": "b"}]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "x"}, {"prompt": "a", "completion": "b"}], "rows are of several formats"),
        ([{"chosen": "x", "rejected": "y"}], "rows are preference data"),
    ],
)
def test_the_card_has_no_code_that_would_not_work(tmp_path: Path, rows: list[dict[str, Any]], said: str) -> None:
    card = write(tmp_path, rows)
    assert said in card
    assert not blocks_of(card, "yaml") and len(blocks_of(card, "python")) == 1


CONVERSATION = [
    {"role": "system", "content": "s"},
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
    {"role": "user", "content": "bye"},
]


def test_the_snippet_for_trl_splits_conversations_before_their_last_assistant_turn(
    offline: Any, tmp_path: Path
) -> None:
    row = {"prompt": "another column", "chat": CONVERSATION}
    card = write(tmp_path / "out", [row], facts(example="messages", messages_field="chat"))
    dataset = run_trl_snippet(card, tmp_path / "out", upto="trainer =", without="from trl")["dataset"]
    assert dataset.to_list() == [{"prompt": CONVERSATION[:4], "completion": [CONVERSATION[4]]}]
    assert "This trains on the last assistant turn" in card


@pytest.mark.parametrize(
    ("example", "row"),
    [
        ("messages", {"messages": CONVERSATION}),
        ("prompt-completion", {"prompt": CONVERSATION[:2], "completion": CONVERSATION[2:3]}),
    ],
)
def test_the_snippet_for_trl_trains_conversations_without_generation_markers(
    offline: Any, tmp_path: Path, tiny_model_folder: Path, example: str, row: dict[str, Any]
) -> None:
    trl = pytest.importorskip("trl")
    card = write(tmp_path / "out", [row, row], facts(example=example))
    made = trl.SFTConfig(str(tmp_path / "trained"), max_steps=1, report_to=[], use_cpu=True)
    names = run_trl_snippet(card, tmp_path / "out", upto="trainer.train", model=tiny_model_folder, config=made)
    (tokens, _) = names["trainer"].train_dataset.to_list()
    counted = [label for label in tokens["labels"] if label != -100]
    answer = "four" if example == "messages" else "two"
    assert names["trainer"].processing_class.decode(counted).replace("<|assistant|>", "") == f"{answer}<|end|>"
    names["trainer"].train()
    assert names["trainer"].state.global_step == 1


def test_entries_for_axolotl_and_llama_factory_map_the_fields(tmp_path: Path) -> None:
    def entries(**corpus: str) -> tuple[dict[str, Any], dict[str, Any]]:
        card = write(tmp_path, ROWS, facts(**corpus))
        axolotl = yaml.safe_load(code_in(card, "yaml"))["datasets"][0]
        factory = json.loads(code_in(card, "json"))["hamlet"]
        assert axolotl["path"].endswith("curated.parquet")
        assert factory["file_name"] == "curated.parquet"
        return axolotl, factory

    axolotl, factory = entries(example="text", text_field="speech")
    assert (axolotl["type"], axolotl["field"], factory["columns"]) == (
        "completion",
        "speech",
        {"prompt": "speech"},
    )
    axolotl, factory = entries(example="prompt-completion", prompt_field="q", completion_field="a")
    assert (axolotl["type"]["field_instruction"], axolotl["type"]["field_output"]) == ("q", "a")
    assert factory["columns"] == {"prompt": "q", "response": "a"}
    axolotl, factory = entries(example="messages", messages_field="chat")
    assert (axolotl["type"], axolotl["field_messages"]) == ("chat_template", "chat")
    assert (factory["formatting"], factory["columns"]) == ("sharegpt", {"messages": "chat"})


def test_conversational_prompts_have_no_entry_that_would_not_work(tmp_path: Path) -> None:
    row = {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    }
    card = write(tmp_path, [row], facts(example="prompt-completion"))
    assert "join prompt and completion first" in card
    assert not blocks_of(card, "yaml")
    assert "assistant_only_loss" not in card


HOSTILE = "x`` ```\n---\n# Owned\n| <script>alert(1)</script> 'quote\" \\ \u202e: {"


def test_hostile_names_break_neither_yaml_nor_markdown(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{HOSTILE: 1, "text": "x"}, {HOSTILE: "one", "text": "y"}]
    card = write(tmp_path, rows, facts(path=HOSTILE, text_field=HOSTILE))
    matter = yaml.safe_load(card.split("---\n")[1])
    assert matter["pretty_name"] == "hamlet"
    assert yaml.safe_load(code_in(card, "yaml"))["datasets"][0]["field"] == HOSTILE
    assert json.loads(code_in(card, "json"))["hamlet"]["columns"]["prompt"] == HOSTILE
    compile(code_in(card, "python"), "card", "exec")
    prose = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", card, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", prose)
    assert "Owned" not in prose
    assert "<script" not in prose
    headings = [line for line in card.split("\n") if line.startswith("# ")]
    assert headings == ["# hamlet"]
