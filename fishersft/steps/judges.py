"""Getting the judge that a config names ready to answer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from fishersft.config import ModelConfig
from fishersft.config.judging import JudgeConfig, JudgingConfig
from fishersft.data.store import Store
from fishersft.models.judging import Judge, Question
from fishersft.models.source import find_model
from fishersft.steps.models import loaded_model, loaded_tokeniser, prepare_model


@dataclass(frozen=True)
class PreparedJudge:
    """A judge that is there, opened only where there is something to ask.

    Attributes:
        name: as it is shown.
        question: what it is asked about every pair.
        identity: what determines its answers, beside the question's text: its weights, or endpoint and model.
        open: loads the model, or opens the endpoint.
        config: its settings.
        sources: the artifact that it is, as "kind/key", if it is one.
    """

    name: str
    question: Question
    identity: dict[str, Any]
    open: Callable[[], Judge]
    config: JudgeConfig
    sources: tuple[str, ...] = ()


def prepare_judge(
    store: Store,
    judging: JudgingConfig,
    base: ModelConfig,
    *,
    number: int = 0,
    device: str | None = None,
    batch_tokens: int | None = None,
    api_key: SecretStr | None = None,
) -> PreparedJudge:
    """The judge in that place of the config's list.

    Args:
        base: the base model, which judges where the config names no other, and whose precision local judges have.
        number: from 0.
        device: that a local judge runs on, as `device_of` names it.
        batch_tokens: tokens a forward pass of a local judge.
        api_key: an endpoint's key; None: the one in the environment variable that the config names, if it is set.

    Raises:
        InputError: a local model is not there.
    """
    config = judging.judges[number]
    question = Question(judging.task, judging.criterion, judging.rubric)
    if config.base_url is not None:
        return _endpoint_judge(config, config.base_url, question, api_key)
    return _local_judge(store, config, local_model(config, base), question, device, batch_tokens)


def judge_name(config: JudgeConfig, base: ModelConfig) -> str:
    """A judge's name as it is shown."""
    if config.base_url is not None:
        return f"{config.model} at {config.base_url}"
    return config.model or f"{base.path} (the base model itself)"


def local_model(config: JudgeConfig, base: ModelConfig) -> ModelConfig:
    """The model that a judge without an endpoint is."""
    if config.model is None:
        return base
    return base.model_copy(update={"path": config.model, "revision": None, "max_tokens": None})


def check_judges(judging: JudgingConfig, base: ModelConfig) -> None:
    """Fails where a local judge is not there.

    Raises:
        InputError: as `find_model` has it.
    """
    for config in judging.judges:
        if config.base_url is None:
            find_model(local_model(config, base))


def _endpoint_judge(config: JudgeConfig, base_url: str, question: Question, api_key: SecretStr | None) -> PreparedJudge:
    model = config.model or ""  # the config holds that there is one

    def open_endpoint() -> Judge:
        from fishersft.models.endpoint import Endpoint
        from fishersft.models.endpoint_judge import EndpointJudge

        named = os.environ.get(config.key_variable) if config.key_variable else None
        endpoint = Endpoint(
            base_url,
            model,
            api_key=api_key or (SecretStr(named) if named else None),
            key_source=_key_source(config) if api_key is None else "its secret block",
            timeout_seconds=config.timeout_seconds,
            requests_per_minute=config.requests_per_minute,
        )
        return EndpointJudge(endpoint, question, config.concurrency)

    identity = {"base_url": base_url.rstrip("/"), "model": model}
    return PreparedJudge(f"{model} at {base_url}", question, identity, open_endpoint, config)


def _key_source(config: JudgeConfig) -> str:
    if config.key_variable is None:
        return "the environment variable that api_key_env names (it names none, so no key was sent)"
    return f"the environment variable {config.key_variable}"


def _local_judge(
    store: Store,
    config: JudgeConfig,
    settings: ModelConfig,
    question: Question,
    device: str | None,
    batch_tokens: int | None,
) -> PreparedJudge:
    model = prepare_model(store, settings)

    def load() -> Judge:
        from fishersft.models.local_judge import LocalJudge

        tokeniser = loaded_tokeniser(model, model.context, settings.trust_remote_code)
        loaded = loaded_model(model, settings.dtype, device, settings.trust_remote_code)
        return LocalJudge(loaded, tokeniser.tokenizer, question, model.context, batch_tokens)

    identity = {"fingerprint": model.fingerprint, "dtype": settings.dtype}
    name = judge_name(config, settings)
    return PreparedJudge(name, question, identity, load, config, model.sources)
