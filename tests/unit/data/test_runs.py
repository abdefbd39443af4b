"""Run records: a run is on record from its start, live while it renews, and says what it used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from time import monotonic, sleep

import pytest

from fishersft.data import runs
from fishersft.data.artifact_names import KINDS
from fishersft.data.runs import RunRecord, is_live, last_finished, read_runs, recorded_run, store_time
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.outcome import find_or_make

KEY = "0" * 64
OTHER = "1" * 64


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture(params=["folder", "s3"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket"))


def make_shard(store: Store, text: str) -> str:
    """Finds or makes a shard as a step does, and gives its key."""
    return find_or_make(
        store,
        "shard",
        1,
        {},
        {"rows": text},
        lambda draft: draft.facts.update(rows=(draft.folder / "a").write_text(text)),
    ).key


def only_record(store: Store) -> RunRecord:
    (run,) = read_runs(store.files)
    return run.record


def wait_until(true: Callable[[], bool]) -> None:
    deadline = monotonic() + 30
    while not true():
        assert monotonic() < deadline, "it never came true"
        sleep(0.01)


def test_a_run_is_on_record_from_start_to_end(any_store: Store) -> None:
    with recorded_run(any_store, "verses"):
        record = only_record(any_store)
        assert (record.name, record.state, record.ended, record.roots) == ("verses", "running", None, [])
    record = only_record(any_store)
    assert record.state == "finished" and record.ended is not None and record.ended >= record.started


def test_what_steps_find_and_make_during_a_run_is_registered_in_order(any_store: Store) -> None:
    before = make_shard(any_store, "before")
    with recorded_run(any_store, "verses") as run:
        made = make_shard(any_store, "made")
        assert make_shard(any_store, "before") == before and make_shard(any_store, "made") == made
        run.note(selection=OTHER)
    make_shard(any_store, "after")
    record = only_record(any_store)
    assert (record.roots, record.made) == ([f"shard/{made}", f"shard/{before}"], 1)
    assert record.facts == {"selection": OTHER}


def test_a_run_that_fails_or_is_interrupted_says_so(store: Store) -> None:
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), recorded_run(store, "verses"):
            raise error
    assert [run.record.state for run in read_runs(store.files)] == ["failed", "failed"]


def test_what_a_run_uses_is_on_record_when_the_call_returns(store: Store) -> None:
    with recorded_run(store, "verses") as run:
        run.uses(f"shard/{KEY}", f"shard/{OTHER}")
        assert only_record(store).roots == [f"shard/{KEY}", f"shard/{OTHER}"]


def test_what_a_step_finds_is_on_record_before_the_run_ends(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "GATHER_SECONDS", 0.01)
    with recorded_run(any_store, "verses"):
        key = make_shard(any_store, "thou")
        wait_until(lambda: only_record(any_store).roots == [f"shard/{key}"])


def test_a_run_renews_its_record_while_nothing_happens(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "RENEWAL_SECONDS", 0.01)
    with recorded_run(store, "verses"):
        (first,) = read_runs(store.files)
        wait_until(lambda: read_runs(store.files)[0].modified > first.modified)


def test_a_renewal_that_fails_is_tried_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "GATHER_SECONDS", 0.01)
    with recorded_run(store, "verses") as run:
        write, failed = store.files.write, list[str]()

        def fail_twice(name: str, content: bytes) -> None:
            if len(failed) < 2:
                failed.append(name)
                raise InputError("the store is out of reach")
            write(name, content)

        monkeypatch.setattr(store.files, "write", fail_twice)
        run.note(selection=KEY)
        wait_until(lambda: only_record(store).facts == {"selection": KEY})
    assert len(failed) == 2


def test_a_run_is_live_until_its_record_gets_old(any_store: Store) -> None:
    with recorded_run(any_store, "verses"):
        (run,) = read_runs(any_store.files)
        now = store_time(any_store.files)
        assert is_live(run, now)
        assert not is_live(run, now + timedelta(minutes=6))
    (ended,) = read_runs(any_store.files)
    assert not is_live(ended, store_time(any_store.files))


def test_the_last_finished_run_of_a_name_is_found(store: Store) -> None:
    assert last_finished(store, "verses") is None
    for name, key in (("verses", KEY), ("prose", OTHER)):
        with recorded_run(store, name) as run:
            run.note(selection=key)
    with pytest.raises(RuntimeError), recorded_run(store, "verses"):
        raise RuntimeError
    with recorded_run(store, "verses"):
        record = last_finished(store, "verses")
    assert record is not None and record.facts["selection"] == KEY


def test_runs_written_lately_are_read_alone(store: Store) -> None:
    with recorded_run(store, "verses"):
        pass
    assert read_runs(store.files, since=store_time(store.files) + timedelta(seconds=1)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"roots": ["../../etc/passwd"]},
        {"roots": [f"shard/{KEY}\n"]},
        {"roots": [f"secrets/{KEY}"]},
        {"state": "eternal"},
        {"id": "../../somewhere"},
    ],
)
def test_a_hostile_record_is_refused_by_its_file_name(store: Store, change: dict[str, object]) -> None:
    with recorded_run(store, "verses"):
        pass
    (name,) = (file.name for file in store.files.list(".runs") if file.name.endswith(".json"))
    store.files.write(name, json.dumps({**json.loads(store.files.read(name)), **change}).encode())
    with pytest.raises(InputError, match=rf"{re.escape(name)} in the store is .*delete that file"):
        read_runs(store.files)


def test_files_that_are_no_records_are_not_read(store: Store) -> None:
    store.files.write(".runs/notes.json", b"no record")
    assert read_runs(store.files) == []


def test_every_kind_that_a_step_makes_may_be_on_record() -> None:
    steps = Path(__file__).parents[3] / "fishersft" / "steps"
    made = {
        kind
        for file in steps.glob("*.py")
        for kind in re.findall(
            r'(?:find_or_make\(\s*store,|store\.publish\(|Work\(|^KIND =)\s*"([^"]+)"',
            file.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    }
    assert made == set(KINDS)


def test_a_killed_run_leaves_a_record_that_gets_old(store: Store) -> None:
    program = (
        "import os, signal, sys\n"
        "from fishersft.data.runs import recorded_run\n"
        "from fishersft.data.store import Store\n"
        "with recorded_run(Store(sys.argv[1]), 'verses') as run:\n"
        f"    run.uses('shard/{KEY}')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(store.files.local_path())], check=False)
    (run,) = read_runs(store.files)
    assert (run.record.state, run.record.roots) == ("running", [f"shard/{KEY}"])
    now = store_time(store.files)
    assert is_live(run, now) and not is_live(run, now + timedelta(minutes=6))
