"""Asking an OpenAI-compatible endpoint, with patience: bounded tries, one pace for all threads, and no key told.

The client's own retries are switched off: they give up on a `Retry-After` of more than a minute, let the other threads
go on asking meanwhile, and do not try again where an answer of status 200 breaks off.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from openai import (
    APIConnectionError,
    APIStatusError,
    AuthenticationError,
    NotFoundError,
    OpenAI,
    PermissionDeniedError,
)
from pydantic import BaseModel, Field, SecretStr

from fishersft.errors import InputError

TRIES = 6  # of a question, before the endpoint counts as failing
FIRST_PAUSE = 0.5  # seconds after the first failed try; each pause is twice the one before
LONGEST_PAUSE = 300.0  # seconds that an endpoint may ask to wait for
_REPLY_TOKENS = 16
_SHOWN_REPLY = 200
_REFUSED = (400, 413, 422)  # this question, whatever may be said of others: too long, filtered, malformed
_TRANSIENT = (408, 409, 425, 429)  # and 5xx


class QuestionRefused(Exception):
    """The endpoint does not answer this question; another it may."""


class Stopped(Exception):
    """Another thread ended the asking."""


@dataclass(frozen=True)
class Reply:
    """What an endpoint said, cut, and the tokens it took as the endpoint counts them (0 where it does not)."""

    text: str
    input_tokens: int
    output_tokens: int


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """What is needed of an answer."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage = _Usage()


class Endpoint:
    """One model behind an OpenAI-compatible endpoint, for many threads.

    Args:
        base_url: such as `https://api.openai.com/v1`.
        model: the name it is served under.
        api_key: None where the endpoint wants none.
        key_source: where the key comes from, for errors.
        timeout_seconds: for one answer.
        requests_per_minute: at most so many; None: no limit of ours.

    Raises:
        InputError: the key has characters that cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key: SecretStr | None,
        key_source: str,
        timeout_seconds: float,
        requests_per_minute: int | None,
    ):
        self.name = f"{model} at {base_url}"
        self._model = model
        self._key = api_key.get_secret_value().strip() if api_key else ""
        if not (self._key.isascii() and self._key.isprintable()):
            raise InputError(
                f"the key for the judge {self.name} has characters that cannot be sent; {key_source} has to hold the "
                "key alone, one line of ASCII"
            )
        self._key_source = key_source
        self._pace = _Pace(60 / requests_per_minute if requests_per_minute else 0.0)
        self._client = OpenAI(base_url=base_url, api_key=self._key or "none", timeout=timeout_seconds, max_retries=0)

    def ask(self, prompt: str, stopped: threading.Event) -> Reply:
        """The model's answer to a prompt, at temperature 0.

        Args:
            stopped: once it is set, nothing is waited for or asked any more.

        Raises:
            InputError: the key is refused, there is no such model or endpoint, or it keeps failing.
            QuestionRefused: the endpoint does not take this prompt.
            Stopped: `stopped` was set.
        """
        fault = ""
        for attempt in range(TRIES):
            self._pace.wait_for_turn(stopped)
            wanted = None
            try:
                return self._asked(prompt)
            except APIStatusError as error:
                self._raise_if_final(error)
                fault, wanted = f"status {error.status_code}", _retry_after(error.response.headers.get("retry-after"))
            except APIConnectionError as error:  # time-outs, too
                fault = f"{type(error).__name__}: {error}"
            except ValueError as error:  # status 200, but no JSON or not a completion
                fault = f"an answer that is no completion ({type(error).__name__})"
            self._pause(attempt, wanted, stopped)
        raise InputError(
            f"the judge {self.name} failed {TRIES} times in a row, at last with {self._safe(fault)}; what was judged "
            "is kept, so run again once it is well"
        )

    def _asked(self, prompt: str) -> Reply:
        answer = self._client.chat.completions.with_raw_response.create(
            model=self._model,
            messages=[{"role": "user", "content": prompt}],
            temperature=0,
            max_tokens=_REPLY_TOKENS,
        )
        completion = _Completion.model_validate_json(answer.content)  # the client itself believes any JSON
        said = completion.choices[0].message.content or ""
        usage = completion.usage
        return Reply(self._safe(said)[:_SHOWN_REPLY], usage.prompt_tokens, usage.completion_tokens)

    def _raise_if_final(self, error: APIStatusError) -> None:
        """Turns what another try would not change into the error that says so."""
        said = self._safe(str(error))[:_SHOWN_REPLY]
        if isinstance(error, AuthenticationError | PermissionDeniedError):
            raise InputError(
                f"the judge {self.name} refused the key (status {error.status_code}); {self._key_source} has to hold "
                "a key that may use this model"
            ) from None
        if isinstance(error, NotFoundError):
            raise InputError(
                f"the judge {self.name} was not found (status 404); check its model and base_url, which mostly ends "
                f"in /v1. The endpoint said: {said}"
            ) from None
        if error.status_code in _REFUSED:
            raise QuestionRefused(said) from None
        if error.code == "insufficient_quota":
            raise InputError(f"the judge {self.name} has no quota left: {said}; what was judged is kept") from None
        if error.status_code < 500 and error.status_code not in _TRANSIENT:
            raise InputError(f"the judge {self.name} answered with status {error.status_code}: {said}") from None

    def _pause(self, attempt: int, wanted: float | None, stopped: threading.Event) -> None:
        """Waits before the next try: all threads as long as the endpoint asks for, or this one for a growing time."""
        if wanted is None:
            pause = FIRST_PAUSE * 2**attempt * random.uniform(0.75, 1.25)
            if attempt + 1 < TRIES and stopped.wait(pause):
                raise Stopped
        elif wanted > LONGEST_PAUSE:
            raise InputError(
                f"the judge {self.name} asks to wait for {wanted:,.0f} seconds; what was judged is kept, so run again "
                "after that"
            )
        else:
            self._pace.hold(max(wanted, FIRST_PAUSE))  # some say 0 and mean soon

    def _safe(self, text: str) -> str:
        """Text from the endpoint without the key, which a faulty or hostile one may repeat."""
        return text.replace(self._key, "[key]") if self._key else text


class _Pace:
    """When the next request may go, for all threads of one endpoint; `interval` is in seconds."""

    def __init__(self, interval: float):
        self._interval = interval
        self._lock = threading.Lock()
        self._next = 0.0  # by time.monotonic()

    def wait_for_turn(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            with self._lock:
                wait = self._next - time.monotonic()
                if wait <= 0:
                    self._next = time.monotonic() + self._interval
                    return
            stopped.wait(wait)
        raise Stopped

    def hold(self, seconds: float) -> None:
        """Nobody asks for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


def _retry_after(said: str | None) -> float | None:
    """The seconds that a `Retry-After` asks to wait, a number or a date as RFC 9110 has it; None where it does not."""
    if said is None:
        return None
    with suppress(ValueError):
        return max(0.0, float(said))
    try:
        return max(0.0, (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # a date without a zone cannot be compared
        return None
