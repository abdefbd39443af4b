"""A training that was cut short goes on from its last checkpoint, and ends in the same weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from fishersft.config import FinetuneConfig
from fishersft.data.examples import TextExample
from fishersft.models import token_trainer
from fishersft.models.finetuning import TrainingRecord, finetune
from fishersft.models.tokenising import Tokeniser
from tests.conftest import VERSES

UNLIKE_VERSES = ["zzz 99 QQ", "x=y; y=z", "{[()]}"]


class Interrupted(Exception):
    pass


@pytest.fixture
def train(tmp_path: Path, tiny_model_folder: Path, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    """Trains for 3 epochs of 3 steps; gives the record, the weights, and the steps that were taken this time."""
    sentences, held_out = (
        [Tokeniser(tokenizer, 32)(TextExample(text)) for text in texts] for texts in (VERSES, UNLIKE_VERSES)
    )

    def run(
        checkpoints: Path, interrupted_after: int | None = None, **settings: Any
    ) -> tuple[TrainingRecord, dict[str, torch.Tensor], list[int]]:
        taken: list[int] = []

        def on_progress(done: int, total: int, note: str = "") -> None:
            if note:
                taken.append(done)
            if done - 1 == interrupted_after:  # the step before is over, its checkpoint written
                raise Interrupted

        model = AutoModelForCausalLM.from_pretrained(tiny_model_folder)
        model.config.attention_dropout = 0.2  # so that the state of the random generator matters, too
        for layer in model.model.layers:
            layer.self_attn.attention_dropout = 0.2
        config = FinetuneConfig(**{"epochs": 3, "learning_rate": 1e-2, **settings})
        record = finetune(
            model,
            tokenizer,
            sentences,
            config,
            tmp_path / "trained",
            steps_per_epoch=3,
            held_out=held_out,
            checkpoints=checkpoints,
            on_progress=on_progress,
        )
        return record, AutoModelForCausalLM.from_pretrained(tmp_path / "trained").state_dict(), taken

    return run


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("method", "interrupted_after"), [("full", 4), ("lora", 3)])  # in an epoch, and at its end
def test_an_interrupted_training_ends_in_the_same_weights(
    method: str,
    interrupted_after: int,
    tmp_path: Path,
    train: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, weights, _ = train(tmp_path / "undisturbed", method=method)
    monkeypatch.setattr(token_trainer, "CHECKPOINT_SECONDS", 0.0)
    checkpoints = tmp_path / "checkpoints"
    with pytest.raises(Interrupted):
        train(checkpoints, interrupted_after, method=method)
    record, resumed, taken = train(checkpoints, method=method)
    assert taken == list(range(interrupted_after + 1, 10))
    assert record == whole and same(resumed, weights)
    assert not checkpoints.exists()


def test_a_checkpoint_that_was_not_written_to_its_end_is_passed_over(
    tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_trainer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        train(tmp_path / "checkpoints", 4)
    (whole,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    for name, state in (("checkpoint-7", None), ("checkpoint-8", '{"epoch": 2.6')):
        broken = whole.with_name(name)
        broken.mkdir()
        if state:
            (broken / "trainer_state.json").write_text(state)
    assert train(tmp_path / "checkpoints")[2] == [5, 6, 7, 8, 9]


def test_a_training_without_a_place_for_checkpoints_leaves_none(tmp_path: Path, train: Callable[..., Any]) -> None:
    train(None)
    assert [path.name for path in tmp_path.iterdir()] != [] and not list(tmp_path.rglob("checkpoint-*"))


@pytest.mark.parametrize("interrupted_after", [3, 6], ids=["after the best epoch", "after a worse one"])
def test_early_stopping_counts_on_where_it_was(
    interrupted_after: int, tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 8, "early_stopping": 2}
    whole, weights, _ = train(tmp_path / "undisturbed", **settings)
    monkeypatch.setattr(token_trainer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        train(tmp_path / "checkpoints", interrupted_after, **settings)
    record, resumed, _ = train(tmp_path / "checkpoints", **settings)
    assert whole.steps < 24 and record == whole and same(resumed, weights)


def test_a_training_that_had_stopped_early_when_it_was_cut_short_is_not_trained_on(
    tmp_path: Path, train: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": 8, "early_stopping": 2}
    whole, weights, _ = train(tmp_path / "undisturbed", **settings)

    def interrupted(*_: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("fishersft.models.finetuning._save", interrupted)
        with pytest.raises(Interrupted):
            train(tmp_path / "checkpoints", **settings)
    record, resumed, taken = train(tmp_path / "checkpoints", **settings)
    assert taken == [] and record == whole and same(resumed, weights)
