"""Tokenising a corpus before anything is computed: counts, bad rows by name, several processes, and keys."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps import tokens as tokens_step
from fishersft.steps.checking import check_corpora
from fishersft.steps.corpus import load_index, read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.tokens import TokenCounts, check_rows, shard_tokens, tokenise_shard
from tests.conftest import CHAT_TEMPLATE
from tests.selected import write_rows

TEMPLATE_THAT_REFUSES = "{% if 'no' in messages[0].content %}{{ raise_exception('no') }}{% endif %}" + CHAT_TEMPLATE
Make = Callable[..., CurateConfig]


@pytest.fixture
def make(tmp_path: Path, tiny_model_folder: Path) -> Make:
    """Makes a config for some rows."""

    def config(rows: list[dict[str, Any]], store: str = "store", **settings: Any) -> CurateConfig:
        values = {
            "corpus": {"path": str(write_rows(tmp_path / "d.jsonl", rows)), "held_out_fraction": 0.3},
            "model": {"path": str(tiny_model_folder)},
            "embedding": {"shard_rows": 8},
            "store": str(tmp_path / store),
        }
        for name, more in settings.items():
            values[name] = {**values.get(name, {}), **more}  # type: ignore[dict-item]
        return CurateConfig.model_validate(values)

    return config


def checked(config: CurateConfig, told: list[tuple[int, int]] | None = None) -> TokenCounts:
    """What checking the rows of a corpus finds."""
    store = Store(config.store)
    on_progress = None if told is None else lambda done, total, note="": told.append((done, total))
    return check_rows(store, config, [(config, read_corpus(store, config).key)], on_progress)[0]


def conversations(count: int, bad: range = range(0)) -> list[dict[str, Any]]:
    """Of which the template that refuses refuses the bad ones."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"{'no' if n in bad else 'May'} {n}"},
                {"role": "assistant", "content": f"heaven {n}"},
            ]
        }
        for n in range(count)
    ]


@pytest.fixture
def refusing(tmp_path: Path) -> str:
    path = tmp_path / "refusing.jinja"
    path.write_text(TEMPLATE_THAT_REFUSES)
    return str(path)


def copied(folder: Path, to: Path) -> Path:
    """A copy of a model's folder."""
    return Path(shutil.copytree(folder, to))


def test_counts_are_those_of_the_pool(make: Make) -> None:
    rows = [{"prompt": f"{n} " + "May " * (40 if n % 3 == 0 else 1), "completion": " day" * (n + 1)} for n in range(30)]
    config = make(rows, model={"max_tokens": 20})
    found = checked(config)
    store = Store(config.store)
    index = load_index(store, read_corpus(store, config).key)
    pool = [one for shard in index.shards for one in shard_tokens(store, tokenise_shard(store, config, shard))]
    assert found.rows == len(pool) and found.tokens == sum(sentence.loss_tokens for sentence in pool)
    assert found.cut == sum(sentence.truncated for sentence in pool)
    assert found.lost == found.without_loss == sum(not sentence.loss_tokens for sentence in pool) > 3
    assert found.cut > found.lost and found.bad == found.held_out_bad == 0
    assert found.largest_id == max(max(sentence.input_ids) for sentence in pool)


def test_a_bad_row_is_named_by_file_and_row_with_how_many_more(make: Make, refusing: str) -> None:
    config = make(conversations(40, bad=range(3, 8)), corpus={"chat_template": refusing})
    with pytest.raises(InputError) as error:
        checked(config)
    place, _, reason = str(error.value).partition(": ")
    file, _, number = place.rpartition(":")
    assert file.endswith("d.jsonl") and int(number) in range(4, 9)
    assert reason.startswith("the chat template refuses the conversation that begins user: 'no ")
    assert "(4 more rows cannot be tokenised either); to leave such rows out, set corpus.on_bad_row: skip" in reason


def test_one_bad_row_has_no_more_of_its_kind(make: Make, refusing: str) -> None:
    with pytest.raises(InputError, match=r"d\.jsonl:4: ") as error:
        checked(make(conversations(40, bad=range(3, 4)), corpus={"chat_template": refusing}))
    assert "more rows" not in str(error.value)


def test_skipped_rows_are_counted_on_both_sides_and_twenty_are_listed(make: Make, refusing: str) -> None:
    rows = conversations(60, bad=range(10, 40))
    found = checked(make(rows, corpus={"chat_template": refusing, "on_bad_row": "skip"}))
    assert found.bad + found.held_out_bad == 30 and found.bad and found.held_out_bad
    assert len(found.bad_rows) == 20 and len(set(found.bad_rows)) == 20
    assert found.without_loss == found.bad and found.lost == 0


def test_the_model_that_is_trained_is_checked_too_and_named(
    make: Make, tmp_path: Path, tiny_model_folder: Path
) -> None:
    other = copied(tiny_model_folder, tmp_path / "other")
    (other / "chat_template.jinja").write_text(TEMPLATE_THAT_REFUSES)
    config = make(conversations(40, bad=range(3, 8)), finetune={"model": {"path": str(other)}})
    with pytest.raises(InputError, match=r"^for finetune\.model: .*d\.jsonl:\d+: the chat template refuses"):
        checked(config)


def test_rows_that_only_the_trained_model_cannot_take_are_told_of(
    make: Make, tmp_path: Path, tiny_model_folder: Path
) -> None:
    other = copied(tiny_model_folder, tmp_path / "other")
    (other / "chat_template.jinja").write_text(TEMPLATE_THAT_REFUSES)
    rows = conversations(60, bad=range(10, 40))
    config = make(rows, finetune={"model": {"path": str(other)}}, corpus={"on_bad_row": "skip"})
    store = Store(config.store)
    lines = check_corpora(store, config, read_corpus(store, config))
    assert re.fullmatch(
        r"(\d+) rows without a token to learn from for finetune\.model \(\1 cannot be tokenised\): not trained on, "
        "even if chosen",
        lines[-1],
    )


def test_several_processes_make_the_artifacts_that_one_makes(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = conversations(60)
    told: list[tuple[int, int]] = []
    alone = checked(make(rows), told)
    assert told[-1] == (60, 60) and [done for done, _ in told] == sorted(done for done, _ in told)
    monkeypatch.setattr(tokens_step, "_ROWS_FOR_PROCESSES", 1)
    monkeypatch.setattr(tokens_step.os, "cpu_count", lambda: 2)
    told.clear()
    assert checked(make(rows, store="other"), told) == alone
    assert told[-1] == (60, 60)
    one, other = (
        {
            path.parent.name: path.read_bytes()
            for path in Path(make(rows, store=name).store).glob("tokens/*/*/*.safetensors")
        }
        for name in ("store", "other")
    )
    assert one == other and len(one) > 3


def test_what_is_there_is_not_tokenised_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = checked(make(conversations(40)))
    monkeypatch.setattr(tokens_step, "_tokenised", lambda *_: pytest.fail("it is in the store"))
    told: list[tuple[int, int]] = []
    assert checked(make(conversations(40)), told) == first and told == []
    assert checked(make(conversations(40), corpus={"on_bad_row": "skip"})) == first


def test_a_token_beyond_the_embedding_table_is_named(make: Make, tiny_model_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(tiny_model_folder)
    rows = conversations(40)
    checked(make(rows))
    rows[7]["messages"][1]["content"] = "<tool>"
    with pytest.raises(InputError, match="token in the corpus '<tool>' with id"):
        checked(make(rows))


def embedded(config: CurateConfig) -> list[str]:
    """The keys of a corpus's embeddings."""
    store = Store(config.store)
    return [embed_shard(store, config, shard).key for shard in read_corpus(store, config).facts["shard_keys"]]


def test_templates_that_render_the_same_text_share_embeddings(make: Make, tmp_path: Path) -> None:
    rows, path = conversations(20), tmp_path / "chat.jinja"
    by_tokenizer = embedded(make(rows))
    path.write_text("{# the same #}" + CHAT_TEMPLATE)
    assert embedded(make(rows, corpus={"chat_template": str(path)})) == by_tokenizer
    path.write_text(CHAT_TEMPLATE.replace("<|end|>{% endfor", "!<|end|>{% endfor"))
    assert not set(embedded(make(rows, corpus={"chat_template": str(path)}))) & set(by_tokenizer)


def test_a_template_file_that_changes_is_read_anew_in_the_same_process(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    config = make(conversations(20), corpus={"chat_template": str(path)})
    store = Store(config.store)
    lengths = []
    for said in ("", "Rough winds "):
        path.write_text(said + CHAT_TEMPLATE)
        checked(config)
        shard = load_index(store, read_corpus(store, config).key).shards[0]
        lengths.append([len(one.input_ids) for one in shard_tokens(store, tokenise_shard(store, config, shard))])
    assert all(after > before for before, after in zip(*lengths, strict=True))
