"""Published tasks of lm-evaluation-harness, where it is installed: it is no dependency of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fishersft.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH_SIZE = 8
_STDERR = "_stderr"


@dataclass(frozen=True)
class TaskFigure:
    """One figure of a task: its metric, with the filter of the answers where there is one, and its standard error.

    `stderr` is None where the harness gives none.
    """

    task: str
    metric: str
    value: float
    stderr: float | None


def harness_version() -> str:
    """The version of the installed harness.

    Raises:
        InputError: it is not installed.
    """
    try:
        return version("lm_eval")
    except PackageNotFoundError as error:
        raise InputError(
            "evaluation.harness_tasks names tasks of lm-evaluation-harness, which is not installed here; "
            "`pip install lm_eval`, or leave the setting out"
        ) from error


def check_tasks(tasks: Sequence[str]) -> None:
    """Makes sure that these tasks can be run, before anything else is.

    Raises:
        InputError: the harness is not installed, or has no task, group or tag of that name.
    """
    installed = harness_version()
    from lm_eval.tasks import TaskManager

    unknown = sorted(set(tasks) - set(TaskManager().all_tasks))
    if unknown:
        raise InputError(
            f"evaluation.harness_tasks: lm_eval {installed} has no task {', '.join(unknown)}; `lm_eval ls tasks` lists "
            "those it has"
        )


def run_tasks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str | dict[str, Any]]
) -> list[TaskFigure]:
    """Measures a model on tasks of the harness, with the harness's own prompts, numbers of shots and seeds.

    Args:
        model: a causal LM in evaluation mode.
        tokenizer: the model's.
        tasks: names that the harness knows, or a task's own settings as its YAML files hold them. What they are made
            of is fetched from the Hugging Face hub, unless they say otherwise.

    Returns:
        A figure a task and metric, and one a group where the harness makes one, in the harness's order.

    Source: Biderman et al. (2024), "Lessons from the Trenches on Reproducible Evaluation of Language Models".
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=_BATCH_SIZE)
    results = simple_evaluate(model=wrapped, tasks=list(tasks), log_samples=False)["results"]
    return [figure for task, measured in results.items() for figure in _figures(task, measured)]


def _figures(task: str, measured: Mapping[str, Any]) -> list[TaskFigure]:
    """Of entries such as {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "arc"}."""
    figures = []
    for name, value in measured.items():
        metric, comma, kept = name.partition(",")
        if not comma or metric.endswith(_STDERR) or not isinstance(value, int | float):
            continue
        error = measured.get(f"{metric}{_STDERR},{kept}")
        stderr = float(error) if isinstance(error, int | float) else None  # "N/A" where it has none
        figures.append(TaskFigure(task, metric if kept == "none" else f"{metric}, {kept}", float(value), stderr))
    return figures
