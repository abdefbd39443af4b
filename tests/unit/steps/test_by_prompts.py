"""A comparison may choose by prompts alone: the answers decide nothing, and are what is trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from fishersft.config.compare import CompareConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.by_prompts import check_prompts
from fishersft.steps.chosen_from import ChosenFrom
from fishersft.steps.comparing import artifacts_of_choice
from fishersft.steps.corpus import load_index, read_corpus, shard_rows
from fishersft.steps.embedding import embed_shard
from fishersft.steps.methods import select_by
from fishersft.steps.picks import load_picks
from tests.unit.steps.test_prompts import informative, questions, write

BUDGET = 5
USER = {"role": "user", "content": "Who?"}


def answered(answer: str = "heart ") -> list[dict[str, Any]]:
    return [{"prompt": question, "completion": " " + answer * (i % 5 + 1)} for i, question in enumerate(questions(40))]


def comparison(rows: list[dict[str, Any]], folder: Path, model: Path, **changes: Any) -> CompareConfig:
    folder.mkdir(exist_ok=True)
    return CompareConfig.model_validate(
        {
            "corpus": {"path": str(write(folder / "pool.jsonl", rows)), "held_out_fraction": 0.2},
            "model": {"path": str(model)},
            "selection": {"budget_unit": "sentences"},
            "embedding": {"shard_rows": 16},
            "methods": [{"method": "information", "by": "prompts"}],
            "budgets": [BUDGET],
            "store": str(folder / "store"),
            **changes,
        }
    )


def chosen(config: CompareConfig) -> tuple[Store, ChosenFrom, str, list[dict[str, Any]]]:
    """The selection by prompts, and the rows that it holds."""
    store, corpus = Store(config.store), read_corpus(Store(config.store), config)
    shards = corpus.facts["shard_keys"]
    check_prompts(store, config, corpus.key)
    own, prompts = (
        [embed_shard(store, by, shard).key for shard in shards] for by in (config.embedded(), config.prompted())
    )
    known = ChosenFrom(corpus.key, own, prompts=prompts)
    selection = select_by(store, config, config.methods[0], BUDGET, 0, known).key
    picks = load_picks(store, selection)
    return store, known, selection, [shard_rows(store, s)[r] for s, r in zip(picks.shards, picks.rows, strict=True)]


def test_prompts_are_chosen_by_their_positions_and_answers_are_counted(tmp_path: Path, tiny_model_folder: Path) -> None:
    config = comparison(answered(), tmp_path / "one", tiny_model_folder)
    store, known, selection, rows = chosen(config)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    pool = [row for shard in load_index(store, known.corpus).shards for row in shard_rows(store, shard)]
    blocks = []
    for row in pool:
        ids = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            blocks.append(model.model(input_ids=ids).last_hidden_state[0].double().numpy())
    assert rows == [pool[place] for place in informative(blocks, BUDGET)]
    wanted = [len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) for row in rows]
    before = [len(tokenizer(row["prompt"])["input_ids"]) for row in rows]
    counted = [whole + 1 - prompt for whole, prompt in zip(wanted, before, strict=True)]  # with the end of text
    assert load_picks(store, selection).tokens == counted
    assert store.get("selection", selection).facts["tokens"] == sum(counted)

    charged = artifacts_of_choice(store, [selection])
    assert {f"embeddings/{key}" for key in known.prompts} < charged
    assert not {f"embeddings/{key}" for key in known.embeddings} & charged


def test_other_answers_leave_the_choice_as_it_is(tmp_path: Path, tiny_model_folder: Path) -> None:
    picks = []
    for name, answer in (("one", "heart "), ("other", "rough winds ")):
        settings = comparison(answered(answer), tmp_path / name, tiny_model_folder)
        settings.corpus.held_out_fraction = 0.0  # what is held out hangs on the answers too
        picks.append({row["prompt"] for row in chosen(settings)[3]})
    assert picks[0] == picks[1]


@pytest.mark.parametrize(
    "row",
    [
        {"text": "To be"},
        {"messages": [USER, {"role": "assistant", "content": "I."}, USER]},
        {"prompt": "", "completion": "I."},
    ],
)
def test_a_row_that_is_no_prompt_with_its_answer_is_named(
    row: dict[str, Any], tmp_path: Path, tiny_model_folder: Path
) -> None:
    config = comparison([row, *answered()], tmp_path / "pool", tiny_model_folder)
    config.corpus.held_out_fraction = 0.0
    store = Store(config.store)
    with pytest.raises(InputError, match=r"pool\.jsonl:1"):
        check_prompts(store, config, read_corpus(store, config).key)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": {"budget_unit": "tokens"}}, "set selection.budget_unit: sentences"),
        ({"methods": [{"method": "longest", "by": "prompts"}]}, "by: prompts is for the method information"),
        ({"corpus": {"path": "a", "example": "prompt"}}, "reads rows without their answers"),
    ],
)
def test_settings_that_cannot_choose_by_prompts_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path, tiny_model_folder: Path
) -> None:
    with pytest.raises(ValidationError, match=message):
        comparison([], tmp_path / "none", tiny_model_folder, **changes)
