"""What a task's progress says: a rate and the time left only once there is something to tell them from."""

from __future__ import annotations

import logging

import pytest

from tasks import progress


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a Progress shows on every call, a second apart."""
    shown: list[str] = []
    seconds = iter(range(1000))
    monkeypatch.setattr(progress, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))
    monkeypatch.setattr(progress, "_ARTIFACT_SECONDS", 0.0)
    monkeypatch.setattr(
        progress.Progress, "_show", lambda self, done, total, note: shown.append(self._line(done, total, note))
    )
    return shown


def test_nothing_done_says_no_rate_and_no_time_left(lines: list[str]) -> None:
    report = progress.Progress("fine-tuning on uniform", "steps")
    report(0, 40)
    report(0, 40, "loss 5.1")
    assert lines == ["fine-tuning on uniform: 0 of 40 steps", "fine-tuning on uniform: 0 of 40 steps; loss 5.1"]


def test_the_rate_counts_what_was_done_since_the_first_call(lines: list[str]) -> None:
    report = progress.Progress("fine-tuning on uniform", "steps")
    report(500, 1000)  # as one that goes on where it was
    report(502, 1000)
    assert lines[0] == "fine-tuning on uniform: 500 of 1,000 steps"
    rate = float(lines[1].split(", ")[1].removesuffix(" a second"))
    assert 0 < rate <= 2 and lines[1].endswith(f", {(1000 - 502) / rate:,.0f} s left")
