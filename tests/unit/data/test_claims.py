"""Claims: who finds one waits, unless its owner is no more."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from fishersft.data import claims
from fishersft.data.claims import AtWork, claimed, one_at_a_time, renewed_claims
from fishersft.data.files import Files
from fishersft.data.store import Draft, Store
from fishersft.steps.outcome import Outcome, find_or_make

NAME = ".claims/shard-1.json"


@pytest.fixture(params=["folder", "s3"])
def files(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Files(str(tmp_path / "store") if request.param == "folder" else f"{request.getfixturevalue('bucket')}/store")


def claim_of(**changes: object) -> bytes:
    """A claim as another process of this machine wrote it, which lives: this one."""
    return json.dumps({"owner": "another", **claims._this_process(), "renewals": 0, **changes}).encode()


def never() -> bool:
    return False


def test_a_claim_is_there_while_the_work_is_done_and_gone_afterwards_even_if_it_fails(files: Files) -> None:
    def work() -> None:
        with claimed(files, "shard", "1", never):
            assert files.exists(NAME)
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        work()
    assert not files.exists(NAME)


def test_a_claim_is_renewed_while_the_work_goes_on(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEWED_EVERY", 0.05)
    with claimed(files, "shard", "1", never):
        first = files.read(NAME)
        while files.read(NAME) == first:
            time.sleep(0.05)


def test_others_see_which_artifacts_of_a_kind_are_claimed_and_when_a_claim_was_renewed(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEWED_EVERY", 0.05)
    assert renewed_claims(files, "shard") == {}
    with claimed(files, "shard", "1", never), claimed(files, "model", "2", never):
        first = renewed_claims(files, "shard")
        assert list(first) == ["1"]
        while renewed_claims(files, "shard")["1"] == first["1"]:
            time.sleep(0.05)
    assert renewed_claims(files, "shard") == {}


def test_threads_that_want_the_same_artifact_make_it_once(files: Files, tmp_path: Path) -> None:
    made: list[str] = []
    outcomes: list[Outcome] = []

    def make(draft: Draft) -> None:
        made.append(threading.current_thread().name)
        time.sleep(0.5)
        (draft.folder / "rows").write_text("thou")

    def run() -> None:
        outcomes.append(find_or_make(Store(files.shown), "shard", 1, {}, {}, make))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(outcome.hit for outcome in outcomes) == [False, True, True, True]


def test_the_claim_of_a_process_that_is_no_more_is_taken_over_at_once(files: Files) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    files.write(NAME, claim_of(pid=ended.pid))
    with claimed(files, "shard", "1", never):
        assert b"another" not in files.read(NAME)


def test_the_claim_of_a_process_whose_number_went_to_another_is_taken_over_at_once(files: Files) -> None:
    files.write(NAME, claim_of(started=psutil.Process().create_time() - 1000))
    with claimed(files, "shard", "1", never):
        assert b"another" not in files.read(NAME)


def test_a_claim_of_another_machine_is_taken_over_when_it_is_not_renewed(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "STALE_AFTER", 0.5)
    files.write(NAME, claim_of(host="elsewhere", pid=1))
    with claimed(files, "shard", "1", never):
        assert b"elsewhere" not in files.read(NAME)


def test_a_renewed_claim_is_waited_for_however_old_it_is(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "STALE_AFTER", 1.0)
    monkeypatch.setattr(claims, "LONGEST_PAUSE", 0.05)
    looks = 0

    def made_at_last() -> bool:
        nonlocal looks
        looks += 1
        time.sleep(0.05)
        files.write(NAME, claim_of(host="elsewhere", renewals=looks))
        return looks == 40

    files.write(NAME, claim_of(host="elsewhere"))
    with claimed(files, "shard", "1", made_at_last):
        assert b"elsewhere" in files.read(NAME)
    assert looks == 40 and files.exists(NAME)


def test_a_damaged_claim_is_waited_for_and_taken_over(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "STALE_AFTER", 0.2)
    files.write(NAME, b"{")
    with claimed(files, "shard", "1", never):
        assert files.read(NAME) != b"{"


RUN = ".claims/run-curate-verses.json"


def nobody(owner: str) -> None:
    raise AssertionError(f"nothing to wait for, but {owner} was told of")


def test_a_run_waits_for_another_of_its_name_and_is_told_whom_for(files: Files) -> None:
    told, order = list[str](), list[str]()
    begun = threading.Event()

    def first() -> None:
        with one_at_a_time(files, "curate-verses", True, nobody):
            begun.set()
            while not told:
                time.sleep(0.01)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(60)
    with one_at_a_time(files, "curate-verses", True, told.append):
        order.append("second")
    thread.join()
    assert order == ["first", "second"] and told == [f"process {os.getpid()} on {socket.gethostname()}"]
    assert not files.exists(RUN)


def test_runs_of_other_names_do_not_wait(files: Files) -> None:
    with one_at_a_time(files, "curate-verses", True, nobody), one_at_a_time(files, "curate-prose", False, nobody):
        pass


def test_a_run_that_does_not_wait_ends_while_another_is_at_work(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "RENEWED_EVERY", 0.05)
    with one_at_a_time(files, "gc", False, nobody):
        said = pytest.raises(AtWork, match=rf"another run of gc is at work \(process {os.getpid()} on ")
        with said, one_at_a_time(files, "gc", False, nobody):
            pytest.fail("two at once")
        assert files.exists(".claims/run-gc.json")


@pytest.mark.parametrize("wait", [True, False])
def test_the_run_of_a_killed_process_holds_nobody_up(files: Files, wait: bool) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    files.write(RUN, claim_of(pid=ended.pid))
    with one_at_a_time(files, "curate-verses", wait, lambda owner: None):
        assert b"another" not in files.read(RUN)


def test_the_run_of_a_machine_that_is_gone_holds_up_no_other_for_long(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "STALE_AFTER", 0.5)
    files.write(RUN, claim_of(host="elsewhere", pid=1))
    with one_at_a_time(files, "curate-verses", False, nobody):
        assert b"another" not in files.read(RUN)
