"""Choosing which prompts to have answered: found in the rows, chosen by all their positions, never trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from fishersft.config import CurateConfig
from fishersft.config.files import load_run
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.picks import load_picks
from fishersft.steps.prompts import check_answered, check_budget, with_prompts_found
from fishersft.steps.publishing import publish_dataset
from tests.unit.steps.small_run import WORDS, Run

BUDGET = 6


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(number: int) -> list[str]:
    generator = np.random.default_rng(1)
    return [" ".join(generator.choice(WORDS, size=generator.integers(2, 9))) + "?" for _ in range(number)]


def settings(path: Path, **changes: Any) -> CurateConfig:
    return CurateConfig.model_validate({"corpus": {"path": str(path)}, **changes})


def test_rows_with_nothing_but_a_prompt_are_found_and_budgets_count_examples(tmp_path: Path) -> None:
    path = write(tmp_path / "prompts.jsonl", [{"prompt": "Who?"}, {"prompt": ""}, {"prompt": "Where?"}])
    found = with_prompts_found(load_run([path], ["selection.budget=100"]))
    assert (found.corpus.example, found.corpus.held_out_fraction) == ("prompt", 0)
    assert (found.selection.budget, found.selection.budget_unit) == (100, "sentences")
    assert found.chosen_criterion() == (
        "information",
        "rows hold prompts without answers, whose gradients are not known",
    )
    explicit = with_prompts_found(load_run([path], ["selection.budget=5k tokens", "corpus.held_out_fraction=0.2"]))
    assert (explicit.selection.budget_unit, explicit.corpus.held_out_fraction) == ("tokens", 0.2)


@pytest.mark.parametrize(
    "rows",
    [
        [{"prompt": "Who?"}, {"prompt": "Where?", "completion": "Here."}],
        [{"messages": [{"role": "user", "content": "Who?"}]}, {"prompt": "Where?", "completion": "Here."}],
        [{"text": "To be"}],
        [{"prompt": ""}],
        [{"messages": "[{"}, {"prompt": "Who?"}],
    ],
)
def test_rows_with_answers_or_faults_are_left_to_the_run(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    config = settings(write(tmp_path / "rows.jsonl", rows))
    assert with_prompts_found(config) is config


def test_bad_rows_that_are_skipped_do_not_hide_prompts(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"messages": "[{"}, {"prompt": "Who?"}])
    found = with_prompts_found(CurateConfig.model_validate({"corpus": {"path": str(path), "on_bad_row": "skip"}}))
    assert found.corpus.example == "prompt"


def test_a_curation_run_says_of_prompts_with_an_empty_answer_column_that_they_need_answers(tmp_path: Path) -> None:
    path = write(
        tmp_path / "rows.jsonl", [{"prompt": "Who?", "completion": ""}, {"prompt": "Who?", "completion": None}]
    )
    with pytest.raises(InputError, match="holds prompts without answers; to choose which"):
        check_answered(settings(path))


def test_a_target_is_not_used_for_prompts_and_auto_says_so(tmp_path: Path) -> None:
    config = settings(tmp_path / "prompts.jsonl", target={"path": "mine.jsonl"})
    prompts = CurateConfig.model_validate({**config.model_dump(), "corpus": {"path": "a", "example": "prompt"}})
    assert "so the target is not used" in prompts.criterion_in_words()
    assert prompts.resolved().target is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection": {"criterion": "gradient-matching"}}, "criterion gradient-matching needs answers"),
        ({"selection": {"gradients": "all layers"}}, "gradients: all layers is for criterion gradient-matching"),
        ({"evaluation": {"corpus": {"path": "b", "example": "prompt"}}}, "nothing can be measured on prompts"),
    ],
)
def test_what_needs_answers_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CurateConfig.model_validate({"corpus": {"path": "a", "example": "prompt"}, **changes})


def test_gradients_are_not_matched_towards_prompts() -> None:
    with pytest.raises(ValidationError, match="the gradients of prompts without answers are not known"):
        CurateConfig.model_validate({"corpus": {"path": "a"}, "target": {"path": "b", "example": "prompt"}})


def test_prompts_are_not_trained_on_and_their_number_has_no_default() -> None:
    config = CurateConfig.model_validate({"corpus": {"path": "a", "example": "prompt"}})
    with pytest.raises(InputError, match=r"cannot be trained on; .* `fishersft select .* add the answers first"):
        check_answered(config)
    with pytest.raises(InputError, match="give a budget in examples, such as --budget 100"):
        check_budget(config)


def informative(blocks: list[np.ndarray], budget: int) -> list[int]:
    """Algorithm 1 of arXiv:2505.14826 with lambda 1, in float64: each time the block with the largest log det."""
    matrix, picks = np.eye(blocks[0].shape[1]), list[int]()
    for _ in range(budget):
        gains = [
            -np.inf if i in picks else np.linalg.slogdet(matrix + block.T @ block)[1] for i, block in enumerate(blocks)
        ]
        picks.append(int(np.argmax(gains)))
        matrix += blocks[picks[-1]].T @ blocks[picks[-1]]
    return picks


@pytest.fixture
def prompts(tmp_path: Path, tiny_model_folder: Path) -> Run:
    rows = [{"messages": [{"role": "user", "content": question}], "id": i} for i, question in enumerate(questions(40))]
    path = write(tmp_path / "prompts.jsonl", rows)
    changes = [f"store={tmp_path}/store", f"output={tmp_path}/output", f"model.path={tiny_model_folder}"]
    config = with_prompts_found(load_run([path], [f"selection.budget={BUDGET}", *changes]))
    return Run(Store(config.store), config)


def test_picks_are_the_most_informative_of_all_positions_of_the_rendered_prompts(
    prompts: Run, tmp_path: Path, tiny_model_folder: Path
) -> None:
    corpus, _, selection = prompts.selected()
    publish_dataset(prompts.store, prompts.config, corpus.key, selection.key)
    chosen = [json.loads(line) for line in (tmp_path / "output/dataset/curated.jsonl").read_text().splitlines()]

    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    texts, blocks = list(dict.fromkeys(questions(40))), []
    for text in texts:
        asked = [{"role": "user", "content": text}]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=False)
        with torch.inference_mode():
            blocks.append(model.model(input_ids=ids).last_hidden_state[0].double().numpy())
    wanted = informative(blocks, BUDGET)
    assert [row["messages"][0]["content"] for row in chosen] == [texts[place] for place in wanted]
    assert [row["fishersft_tokens"] for row in chosen] == [len(blocks[place]) for place in wanted]
    assert load_picks(prompts.store, selection.key).tokens == [len(blocks[place]) for place in wanted]
    card = (tmp_path / "output/dataset/README.md").read_text()
    assert "add the answers as a last turn of the assistant in each conversation" in card and "SFTTrainer" not in card


def test_more_prompts_are_chosen_beside_earlier_ones(prompts: Run) -> None:
    *_, first = prompts.selected()
    *_, more = prompts.changed(selection={"extends": first.key, "budget": 4}).selected()
    one, other = (load_picks(prompts.store, key) for key in (first.key, more.key))
    assert len(other.rows) == 4
    assert not set(zip(one.shards, one.rows, strict=True)) & set(zip(other.shards, other.rows, strict=True))
