"""The settings of judging: what is asked about two texts, and who is asked."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, model_validator

from fishersft.config.fields import NoCredentials, Section, described

_OPENAI = "api.openai.com"


def _name_of_a_variable(name: str | None) -> str | None:
    """Refuses what cannot be a name: whoever puts the key itself here must not see it stored or shown."""
    if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(
            "expected the name of an environment variable (letters, digits and _), such as OPENAI_API_KEY; the key "
            "itself has no place in a configuration"
        )
    return name


def _url_of_an_endpoint(url: str | None) -> str | None:
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("expected a URL such as https://api.openai.com/v1")
    return url


def _rule_for_both_answers(rubric: str | None) -> str | None:
    if rubric is not None and not ("1" in rubric and "2" in rubric):
        raise ValueError(
            'a rubric says when to respond 1 and when 2, such as "Respond 2 if the second text answers its question '
            'better, respond 1 otherwise."'
        )
    return rubric


class JudgeConfig(Section):
    """One judge: a local causal LM, or a model behind an OpenAI-compatible endpoint."""

    model: Annotated[str | None, NoCredentials] = described(
        None,
        0,
        "Model",
        "Without base_url a local model, named like model.path, or empty for the base model itself; with base_url the "
        "name that the endpoint serves it under.",
    )
    base_url: Annotated[str | None, NoCredentials, AfterValidator(_url_of_an_endpoint)] = described(
        None,
        1,
        "Base URL",
        "Of an OpenAI-compatible endpoint, such as https://api.openai.com/v1; empty: a local model judges.",
    )
    api_key_env: Annotated[str | None, AfterValidator(_name_of_a_variable)] = described(
        None,
        2,
        "Key's variable",
        "The name of the environment variable that holds the endpoint's key. Empty: OPENAI_API_KEY for OpenAI's own "
        "endpoint, and none for any other, which has no business with that key.",
    )
    api_key_secret: str | None = described(
        None,
        3,
        "Key's secret block",
        "In flows: the name of the Prefect Secret block that holds the key; empty: the environment variable.",
        pattern="^[a-z0-9-]+$",
    )
    concurrency: int = described(4, 4, "Requests at once", "How many questions the endpoint has at once.", ge=1, le=64)
    requests_per_minute: int | None = described(
        None, 5, "Requests a minute", "Ask at most so often; empty: as often as the endpoint allows.", ge=1
    )
    timeout_seconds: float = described(
        60.0, 6, "Time-out", "Seconds to wait for an answer, before it is asked for again.", gt=0, allow_inf_nan=False
    )
    input_price: float | None = described(
        None, 7, "Price of input", "Of a million input tokens, in any currency; empty: no cost is told.", ge=0
    )
    output_price: float | None = described(
        None, 8, "Price of output", "Of a million output tokens, in the same currency.", ge=0
    )

    def cost(self, input_tokens: int, output_tokens: int) -> float | None:
        """What so many tokens cost, in the currency of the prices; None where there are none."""
        if self.input_price is None or self.output_price is None:
            return None
        return (self.input_price * input_tokens + self.output_price * output_tokens) / 1e6

    @property
    def key_variable(self) -> str | None:
        """The name of the environment variable that holds the endpoint's key; None: no key is sent."""
        if self.api_key_env is None and self.base_url is not None and urlsplit(self.base_url).hostname == _OPENAI:
            return "OPENAI_API_KEY"
        return self.api_key_env

    @model_validator(mode="after")
    def _agrees(self) -> JudgeConfig:
        if self.base_url is not None and self.model is None:
            raise ValueError("a judge with a base_url needs a model: the name that the endpoint serves it under")
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("input_price and output_price go together; give both or neither")
        return self


class JudgingConfig(Section):
    """What the judges are asked about two texts, and who they are."""

    task: str = described(
        "English", 0, "Task", "What the texts should be examples of, as in: more fluent English text.", min_length=1
    )
    criterion: str = described(
        "fluent", 1, "Criterion", "What the better text is more of, as in: more fluent English text.", min_length=1
    )
    rubric: Annotated[str | None, AfterValidator(_rule_for_both_answers)] = described(
        None,
        2,
        "Rubric",
        "A question of your own in place of task and criterion; it says when to respond 1 and when 2. Empty: the "
        "paper's.",
    )
    judges: list[JudgeConfig] = described(
        [JudgeConfig()],
        3,
        "Judges",
        "Who judges. The first one's verdicts are the result; where there are several, their agreement is told.",
        min_length=1,
    )
    calibration_pairs: int = described(
        16,
        4,
        "Calibration pairs",
        "How many held-out texts each judge has to tell from the same words shuffled. One that is not shown to do so "
        "more often than not is reported as unfit.",
        ge=4,
    )
