"""A judge behind an endpoint that fails in all the ways that endpoints do."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import SecretStr

from fishersft.errors import InputError
from fishersft.models.endpoint import TRIES, Endpoint
from fishersft.models.endpoint_judge import EndpointJudge
from fishersft.models.judging import Pair, Question, Verdict
from tests.judge_server import Answer, JudgeServer, fails, prefers_longer_words, running_judge_server, says

KEY = "sk-test-4f1b"
PAIRS = [("a", "abcdef"), ("abcdef", "a"), ("of", "offer"), ("", "word"), ("rain", "")]
CHOICES = [2, 1, 2, 2, 1]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JudgeServer]:
    monkeypatch.setattr("fishersft.models.endpoint.FIRST_PAUSE", 0.001)
    with running_judge_server() as server:
        yield server


def judge(server: JudgeServer, concurrency: int = 1, **settings: Any) -> EndpointJudge:
    given = {"api_key": SecretStr(KEY), "key_source": "MY_KEY", "timeout_seconds": 10.0, "requests_per_minute": None}
    return EndpointJudge(Endpoint(server.url, "judge", **{**given, **settings}), Question("English"), concurrency)


def verdicts(judge: EndpointJudge, pairs: list[Pair]) -> list[Verdict]:
    answers = dict(judge.answers(pairs))
    return [answers[i] for i in range(len(pairs))]


def choices(judge: EndpointJudge, pairs: list[Pair]) -> list[int]:
    return [verdict.choice for verdict in verdicts(judge, pairs)]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_every_pair_gets_the_answer_to_its_own_question(server: JudgeServer, concurrency: int) -> None:
    found = verdicts(judge(server, concurrency), PAIRS)
    assert [verdict.choice for verdict in found] == CHOICES
    assert {(verdict.input_tokens, verdict.output_tokens) for verdict in found} == {(100, 2)}
    assert sorted(server.asked) == sorted(Question("English").about(*pair) for pair in PAIRS)


def test_it_asks_for_few_tokens_at_temperature_0_and_sends_the_key_as_the_header_only(server: JudgeServer) -> None:
    choices(judge(server), PAIRS[:1])
    assert server.bodies[0]["temperature"] == 0 and server.bodies[0]["max_tokens"] == 16
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert KEY not in json.dumps(server.bodies)


@pytest.mark.parametrize(
    "fault",
    [
        fails(500),
        fails(503, Retry_After="0.01"),
        fails(429, Retry_After="0"),
        fails(429),
        Answer(says("2").body[:60]),
        Answer(says("2").body[:60], headers={"Content-Length": "400"}),
        Answer(b"<html>Bad gateway</html>", headers={"Content-Type": "text/html"}),
        Answer(b'{"choices": []}'),
        Answer(b'{"choices": "2"}'),
        Answer(b"[]"),
        Answer(b"\xff\xfe"),
    ],
    ids=[
        "500",
        "503",
        "429",
        "429 without a time",
        "cut JSON",
        "cut body",
        "HTML",
        "no choices",
        "text",
        "list",
        "bytes",
    ],
)
def test_a_fault_that_passes_is_survived(server: JudgeServer, fault: Answer) -> None:
    server.script = [fault, fault]
    assert choices(judge(server), PAIRS) == CHOICES
    assert len(server.asked) == len(PAIRS) + 2


def test_an_answer_that_takes_too_long_is_asked_for_again(server: JudgeServer) -> None:
    slow = Answer(says("1").body, seconds=30)
    server.script = [slow]
    assert choices(judge(server, timeout_seconds=0.3), [PAIRS[0]]) == [2]
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("I think 2 is better", 2),
        ("1.", 1),
        ("I'm sorry, I can't help with that.", 0),
        ("", 0),
        (None, 0),
        ("1 or 2", 0),
    ],
)
def test_words_are_read_where_they_name_one_text_and_a_refusal_names_none(
    server: JudgeServer, reply: str | None, choice: int
) -> None:
    server.script = [says(reply)]
    (verdict,) = verdicts(judge(server), [PAIRS[0]])
    assert (verdict.choice, verdict.reply) == (choice, reply or "")
    assert len(server.asked) == 1


def test_a_time_to_wait_holds_all_threads(server: JudgeServer) -> None:
    began: list[float] = []

    def busy_for_a_while(prompt: str) -> Answer:
        began.append(time.monotonic())
        return fails(429, Retry_After="0.3") if began[-1] < began[0] + 0.3 else prefers_longer_words(prompt)

    server.answer = busy_for_a_while
    assert choices(judge(server, concurrency=4), PAIRS * 4) == CHOICES * 4
    assert len(server.asked) <= len(PAIRS) * 4 + 4  # each thread was told once at most


def test_a_time_to_wait_of_hours_ends_the_asking_with_what_to_do(server: JudgeServer) -> None:
    server.script = [fails(429, Retry_After="7200")]
    with pytest.raises(InputError, match=r"judge at .* asks to wait for 7,200 seconds; what was judged is kept"):
        choices(judge(server), PAIRS)
    server.script = [fails(429, Retry_After=format_datetime(datetime.now(UTC) + timedelta(hours=2), usegmt=True))]
    with pytest.raises(InputError, match=r"asks to wait for 7,"):
        choices(judge(server), PAIRS)
    assert len(server.asked) == 2


def test_an_endpoint_that_keeps_failing_is_given_up_after_so_many_tries(server: JudgeServer) -> None:
    server.answer = lambda prompt: fails(500)
    with pytest.raises(InputError, match=rf"failed {TRIES} times in a row, at last with status 500; .* run again"):
        choices(judge(server), PAIRS)
    assert len(server.asked) == TRIES


def test_what_was_answered_before_a_failure_is_given_before_its_error(server: JudgeServer) -> None:
    server.answer = lambda prompt: fails(500) if "offer" in prompt else prefers_longer_words(prompt)
    answers = judge(server).answers(PAIRS)
    assert [next(answers)[0], next(answers)[0]] == [0, 1]
    with pytest.raises(InputError, match="times in a row"):
        next(answers)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (fails(401, f"Incorrect API key: {KEY}"), r"refused the key \(status 401\); MY_KEY has to hold"),
        (fails(403), r"refused the key \(status 403\)"),
        (fails(404, f"no model for {KEY}"), r"judge at http.* was not found .* check its model and base_url"),
        (fails(429, code="insufficient_quota"), "has no quota left"),
        (fails(451, KEY), r"status 451.*\[key\]"),
        (fails(400, "unsupported parameter"), "takes no question of this form; it said: .*unsupported parameter"),
    ],
    ids=["401", "403", "404", "quota", "451", "400 always"],
)
def test_what_another_try_would_not_change_is_told_at_once_and_never_the_key(
    server: JudgeServer, fault: Answer, message: str
) -> None:
    server.answer = lambda prompt: fault
    with pytest.raises(InputError, match=message) as caught:
        choices(judge(server), PAIRS)
    assert KEY not in str(caught.value)
    assert len(server.asked) <= 2


def test_a_question_that_is_refused_for_its_text_is_unreadable_and_no_other_is(server: JudgeServer) -> None:
    server.answer = lambda prompt: fails(400, "filtered") if "offer" in prompt else prefers_longer_words(prompt)
    hostile_first = [PAIRS[2], *PAIRS]
    assert choices(judge(server), hostile_first) == [0, 2, 1, 0, 2, 1]


def test_a_key_that_the_endpoint_repeats_is_in_no_verdict(server: JudgeServer) -> None:
    server.script = [says(f"2, says {KEY}")]
    (verdict,) = verdicts(judge(server), [PAIRS[0]])
    assert verdict.reply == "2, says [key]"


def test_an_endpoint_without_a_key_is_asked_without_one_of_ours(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-somebody-else")
    assert choices(judge(server, api_key=None), PAIRS) == CHOICES
    assert "sk-for-somebody-else" not in json.dumps(server.headers)


def test_a_key_from_a_file_with_a_line_break_is_sent_without_it_and_one_that_cannot_be_sent_is_refused(
    server: JudgeServer,
) -> None:
    choices(judge(server, api_key=SecretStr(f"{KEY}\n")), PAIRS[:1])
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    for key in (f"{KEY}\nHost: elsewhere", f"{KEY}é"):
        with pytest.raises(InputError, match="MY_KEY has to hold the key alone") as caught:
            judge(server, api_key=SecretStr(key))
        assert KEY not in str(caught.value)


def test_a_limit_of_requests_a_minute_lets_them_go_one_after_the_other(server: JudgeServer) -> None:
    began = time.monotonic()
    assert choices(judge(server, concurrency=4, requests_per_minute=1200), PAIRS) == CHOICES
    assert time.monotonic() - began >= (len(PAIRS) - 1) * 60 / 1200
