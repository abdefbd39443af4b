"""lm-evaluation-harness: the real one where it is installed, and else a stand-in, for it brings many packages."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from fishersft.data.examples import PromptCompletion
from fishersft.errors import InputError
from fishersft.models.evaluating import sentence_nll
from fishersft.models.harness import TaskFigure, check_tasks, run_tasks
from fishersft.models.tokenising import Tokenised, Tokeniser
from tests.conftest import VERSES

STAND_IN = {
    "__init__.py": """
def simple_evaluate(model, tasks, log_samples):
    assert not log_samples
    return {
        "results": {
            task: {
                "alias": task,
                "sample_len": 3,
                "acc,none": model.pretrained,
                "acc_stderr,none": 0.25,
                "exact_match,strict-match": 1,
                "exact_match_stderr,strict-match": "N/A",
            }
            for task in tasks
        },
        "versions": {},
    }
""",
    "tasks/__init__.py": """
class TaskManager:
    all_tasks = ["arc_easy", "arc_hard"]
""",
    "models/__init__.py": "",
    "models/huggingface.py": """
class HFLM:
    def __init__(self, pretrained, tokenizer, batch_size):
        self.pretrained = pretrained
""",
}


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package `lm_eval`, version 0.0, with the four names that are used of it."""
    for name, source in STAND_IN.items():
        file = tmp_path / "lm_eval" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    (tmp_path / "lm_eval-0.0.dist-info").mkdir()
    (tmp_path / "lm_eval-0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with monkeypatch.context() as others:
        for name in loaded():
            others.delitem(sys.modules, name)
        yield
        for name in loaded():
            del sys.modules[name]


def loaded() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "lm_eval"]


def test_every_metric_has_its_value_and_its_standard_error(stand_in: None) -> None:
    model: Any = 0.5
    assert run_tasks(model, model, ["arc_easy", "arc_hard"])[:2] == [
        TaskFigure("arc_easy", "acc", 0.5, 0.25),
        TaskFigure("arc_easy", "exact_match, strict-match", 1.0, None),
    ]


def test_a_task_that_the_harness_does_not_have_is_named(stand_in: None) -> None:
    check_tasks(["arc_easy"])
    with pytest.raises(InputError, match=r"lm_eval 0\.0 has no task arc_esay; `lm_eval ls tasks`"):
        check_tasks(["arc_easy", "arc_esay"])


def test_the_real_harness_finds_what_the_models_own_likelihoods_say(
    tiny_llama: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-evaluation-harness (pip install lm_eval)")
    choices = [" thee", " may"]
    rows = [{"verse": verse, "choices": choices, "answer": number % 2} for number, verse in enumerate(VERSES)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "verses",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}, "cache_dir": str(tmp_path / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{verse}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    tokenise = Tokeniser(tokenizer, 64)

    def nll(prompt: str, completion: str) -> float:
        whole = tokenise(PromptCompletion(prompt, completion))
        without_end = Tokenised(whole.input_ids[:-1], whole.loss_mask[:-1], truncated=False)
        return float(sentence_nll(tiny_llama, [without_end])[0])

    likeliest = [int(np.argmin([nll(verse, choice) for choice in choices])) for verse in VERSES]
    right = np.mean([choice == number % 2 for number, choice in enumerate(likeliest)])
    (figure,) = run_tasks(tiny_llama, tokenizer, [task])
    assert (figure.task, figure.metric, figure.value) == ("verses", "acc", pytest.approx(right))
    assert figure.stderr == pytest.approx(np.sqrt(right * (1 - right) / (len(VERSES) - 1)))


def test_without_the_harness_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing is installed anywhere
    with pytest.raises(InputError, match=r"not installed here; `pip install lm_eval`, or leave the setting out"):
        check_tasks(["arc_easy"])
