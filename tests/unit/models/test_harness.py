"""What is made of lm-evaluation-harness's results, on a stand-in for it: the real one is an extra of many packages."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fishersft.errors import InputError
from fishersft.models.harness import TaskFigure, check_tasks, run_tasks

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
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `lm_eval`, version 0.0, with the four names that are used of it."""
    for name, source in STAND_IN.items():
        file = tmp_path / "lm_eval" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    (tmp_path / "lm_eval-0.0.dist-info").mkdir()
    (tmp_path / "lm_eval-0.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)


def test_every_metric_has_its_value_and_its_standard_error(installed: None) -> None:
    model: Any = 0.5
    assert run_tasks(model, model, ["arc_easy", "arc_hard"])[:2] == [
        TaskFigure("arc_easy", "acc", 0.5, 0.25),
        TaskFigure("arc_easy", "exact_match, strict-match", 1.0, None),
    ]


def test_a_task_that_the_harness_does_not_have_is_named(installed: None) -> None:
    check_tasks(["arc_easy"])
    with pytest.raises(InputError, match=r"lm_eval 0\.0 has no task arc_esay; `lm_eval ls tasks`"):
        check_tasks(["arc_easy", "arc_esay"])


def test_without_the_harness_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing is installed anywhere
    with pytest.raises(InputError, match=r"not installed here; `pip install lm_eval`, or leave the setting out"):
        check_tasks(["arc_easy"])
