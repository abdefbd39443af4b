"""What a flow says of settings that are wrong, and that the log has it in one line."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import MagicMock

import pytest

from fishersft.config import CurateConfig
from fishersft.errors import InputError
from flows.compare import compare
from flows.curate import curate
from tasks.logs import shorten_input_errors

CORPUS = {"path": "verses.txt"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"corpus": CORPUS, "selection": {"criterion": "v-optimal"}},
            "criterion v-optimal needs a target, ",
        ),
        (
            {"corpus": CORPUS, "evaluation": {"top_p": 0.9}},
            "evaluation: top_p 0.9 is for drawing tokens, but temperature",
        ),
        ({"corpus": {}}, "corpus.path: is required"),
        ({"corpus": CORPUS, "nmae": "x"}, "nmae: no such setting"),
        (
            {"corpus": CORPUS, "seed": -1, "selection": {"budget": 0}},
            "selection.budget: Input should be greater than or equal to 1 (found 0); seed: ",
        ),
    ],
)
def test_wrong_settings_are_told_in_one_line_by_their_names(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        curate.validate_parameters({"config": config})
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_comparison_asks_nobody() -> None:
    with pytest.raises(InputError, match=r"approval\.wanted is for a curation run"):
        compare.validate_parameters({"config": {"corpus": CORPUS, "approval": {"wanted": True}}})


def test_a_comparison_trains_on_answers() -> None:
    with pytest.raises(InputError, match=r"corpus\.example prompt reads rows without their answers"):
        compare.validate_parameters({"config": {"corpus": {**CORPUS, "example": "prompt"}}})


def test_a_curation_run_refuses_prompts_before_it_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for told in ("tag_run", "get_run_logger", "guarded_run"):
        monkeypatch.setattr(f"flows.curate.{told}", lambda *_: MagicMock())
    config = CurateConfig.model_validate({"corpus": {**CORPUS, "example": "prompt"}})
    with pytest.raises(InputError, match="prompts without answers cannot be trained on"):
        curate.fn(config)


def test_right_settings_pass() -> None:
    config = curate.validate_parameters({"config": {"corpus": CORPUS, "selection": {"budget": 7}}})["config"]
    assert config.selection.budget == 7


def test_a_line_of_the_log_says_what_was_wrong_and_has_no_traceback() -> None:
    shorten_input_errors()
    logger, error = logging.getLogger("prefect.flow_runs"), InputError("corpus.path: is required")
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, "Execution failed", (), (InputError, error, None))
    assert logger.filter(record)
    assert record.getMessage() == "Execution failed: corpus.path: is required" and record.exc_info is None
