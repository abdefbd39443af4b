"""A training in several processes takes the steps of one, with the same losses, and its faults are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from fishersft.config import FinetuneConfig
from fishersft.data.examples import TextExample
from fishersft.errors import InputError
from fishersft.models.tokenising import Tokenised, Tokeniser
from fishersft.models.training_job import TrainingJob, run_in_processes
from tests.conftest import VERSES


@pytest.fixture
def job(
    tmp_path: Path, tiny_model_folder: Path, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> TrainingJob:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    sentences = [Tokeniser(tokenizer, 32)(TextExample(text)) for text in VERSES]
    return TrainingJob(
        model=tiny_model_folder,
        trust_remote_code=False,
        chat_template=None,
        sentences=sentences,
        held_out=sentences[:3],
        config=FinetuneConfig(epochs=2, learning_rate=1e-3, passes_a_step=2, early_stopping=2),
        folder=tmp_path / "trained",
        checkpoints=tmp_path / "checkpoints",
        steps_per_epoch=5,  # of 7 sentences: some steps have fewer than there are processes
        mixed_precision=False,
        seed=3,
    )


def test_two_processes_take_the_steps_of_one(job: TrainingJob) -> None:
    alone = job.run(torch.device("cpu"), None)
    weights = AutoModelForCausalLM.from_pretrained(job.folder).state_dict()
    seen: list[tuple[Any, ...]] = []
    folder = job.folder.with_name("shared")
    together = run_in_processes(replace(job, folder=folder), ["cpu", "cpu"], lambda *now: seen.append(now))
    for name in ("losses", "held_out_losses"):
        steps, losses = zip(*getattr(alone, name), strict=True)
        assert [step for step, _ in getattr(together, name)] == list(steps)
        assert [loss for _, loss in getattr(together, name)] == pytest.approx(losses, rel=1e-5)
    assert together.steps == 10 and together.tokens_per_epoch == alone.tokens_per_epoch
    assert seen and all(total == 10 for _, total, _ in seen)
    shared = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    for name, before in weights.items():
        torch.testing.assert_close(shared[name], before, rtol=0, atol=2e-5)


def test_a_fault_of_the_input_is_told_as_in_one_process(job: TrainingJob) -> None:
    nothing = replace(job, sentences=[Tokenised([5], [False], False)])
    with pytest.raises(InputError, match="no sentence to train on has a token that the loss counts"):
        run_in_processes(nothing, ["cpu"])


def test_another_fault_is_told_with_the_end_of_the_log_and_ends_all_processes(
    job: TrainingJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text('#!/bin/sh\n[ "$RANK" = 1 ] && echo out of memory >&2 && exit 3\nexec sleep 600\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(RuntimeError, match=r"training process 1 of 2 ended with status 3:\nout of memory"):
        run_in_processes(job, ["cpu", "cpu"])
