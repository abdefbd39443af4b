from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fishersft.errors import InputError
from fishersft.numerics import checkpoint as checkpoints
from fishersft.numerics import select, selection, v_optimal
from fishersft.numerics.greedy import Progress

CHILD = """
import signal, sys, time
import numpy as np
from fishersft.numerics import checkpoint, select

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
checkpoint._SECONDS_BETWEEN = 0.0
blocks = np.random.default_rng(0).normal(size=(3000, 1, 48)) * np.linspace(0.1, 2, 3000)[:, None, None]

def tell(progress):
    if progress.picks == int(sys.argv[2]):
        print("on the way", flush=True)
    if progress.picks >= int(sys.argv[2]):
        time.sleep(float(sys.argv[3]))  # so that it is not done before the signal comes

selection = select(list(blocks), 300, device="cpu", checkpoint=sys.argv[1], on_progress=tell)
print(selection.indices.tolist(), flush=True)
"""


@pytest.fixture(autouse=True)
def saved_at_each_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 0.0)


@pytest.fixture
def blocks() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(rng.integers(1, 9), 6)) for _ in range(30)]
    return made + made[:5]


def interrupt_at(picks: int) -> Any:
    calls = []

    def on_progress(progress: Progress) -> None:
        calls.append(progress)
        if len(calls) == picks:
            raise KeyboardInterrupt

    return on_progress


@pytest.mark.parametrize("algorithm", ["lazy", "paper", "naive"])
@pytest.mark.parametrize("options", [{}, {"include": [3, 9], "exclude": [1]}, {"stop_below": 1.0}], ids=str)
def test_a_run_interrupted_at_any_pick_goes_on_to_the_same_picks(
    blocks: list[np.ndarray], algorithm: Any, options: dict[str, Any], tmp_path: Path
) -> None:
    whole = select(blocks, 12, algorithm=algorithm, **options)
    for picks in range(1, len(whole) + 1):
        path = tmp_path / "made" / "checkpoint.json"
        with pytest.raises(KeyboardInterrupt):
            select(blocks, 12, algorithm=algorithm, checkpoint=path, on_progress=interrupt_at(picks), **options)
        assert json.loads(path.read_text())["runs"]["gain"]["indices"] == whole.indices[:picks].tolist()
        told: list[int] = []
        resumed = select(
            blocks,
            12,
            algorithm=algorithm,
            checkpoint=path,
            on_progress=lambda progress: told.append(progress.picks),  # noqa: B023
            **options,
        )
        assert told == list(range(picks + 1, len(whole) + 1))
        assert resumed.indices.tolist() == whole.indices.tolist()
        np.testing.assert_allclose(resumed.gains, whole.gains, rtol=1e-9)
        assert resumed.stopped == whole.stopped
        assert resumed.certificate is not None
        assert whole.certificate is not None
        assert resumed.information_gain * (1 - 1e-9) <= resumed.certificate.upper_bound
        assert resumed.certificate.upper_bound <= whole.certificate.upper_bound * 1.2
        assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("algorithm", ["lazy", "naive"])
def test_both_rules_of_a_token_budget_go_on(blocks: list[np.ndarray], algorithm: Any, tmp_path: Path) -> None:
    options: Any = {"budget": 40, "budget_unit": "tokens", "algorithm": algorithm}
    calls: list[Progress] = []
    whole = select(blocks, on_progress=calls.append, **options)
    rules = set()
    for picks in range(1, len(calls) + 1):
        path = tmp_path / "checkpoint.json"
        with pytest.raises(KeyboardInterrupt):
            select(blocks, checkpoint=path, on_progress=interrupt_at(picks), **options)
        rules.add(tuple(json.loads(path.read_text())["runs"]))
        resumed = select(blocks, checkpoint=path, **options)
        assert (resumed.indices.tolist(), resumed.rule) == (whole.indices.tolist(), whole.rule)
        np.testing.assert_allclose(resumed.gains, whole.gains, rtol=1e-9)
        assert not path.exists()
    assert rules == {("gain",), ("gain", "gain per token")}


def test_an_exact_v_optimal_run_goes_on_to_the_same_picks(blocks: list[np.ndarray], tmp_path: Path) -> None:
    options: Any = {"criterion": "v-optimal", "target": [np.eye(6)[:3]], "algorithm": "naive"}
    whole = select(blocks, 10, **options)
    for picks in range(1, 11):
        path = tmp_path / "checkpoint.json"
        with pytest.raises(KeyboardInterrupt):
            select(blocks, 10, checkpoint=path, on_progress=interrupt_at(picks), **options)
        resumed = select(blocks, 10, checkpoint=path, **options)
        assert resumed.indices.tolist() == whole.indices.tolist()
        np.testing.assert_allclose(resumed.gains, whole.gains, rtol=1e-9)


def test_a_lazy_v_optimal_run_goes_on_from_where_it_looked_at_every_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look at every block at another pick may lead elsewhere, as in the first case; not in the second."""
    monkeypatch.setattr(v_optimal, "_BATCH", 1)
    blocks = [[[0.0, 9.0, 9.0]], [[1.0, 3.0, 0.0]], [[1.0, 0.0, 0.0]]]
    target = [np.diag(np.sqrt([3.0, 0.0, 30.0]))]
    options: Any = {"criterion": "v-optimal", "target": target, "checkpoint": tmp_path / "checkpoint.json"}
    chosen = {}
    for refresh in (1, 64):
        monkeypatch.setattr(v_optimal, "REFRESH", refresh)
        monkeypatch.setattr(selection, "REFRESH", refresh)
        whole = select(blocks, 2, **options)
        with pytest.raises(KeyboardInterrupt):
            select(blocks, 2, on_progress=interrupt_at(1), **options)
        assert select(blocks, 2, **options).indices.tolist() == whole.indices.tolist()
        chosen[refresh] = whole.indices.tolist()
    assert chosen == {1: [0, 1], 64: [0, 2]}


def test_a_checkpoint_that_is_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} is a folder; expected a file"):
        select([[[1.0]]], 1, checkpoint=tmp_path)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_ended_by_a_signal_goes_on_in_another(end: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"

    def command(name: Path, picks: int, wait: float = 0.0) -> list[str]:
        return [sys.executable, "-c", CHILD, str(name), str(picks), str(wait)]

    rows = np.random.default_rng(0).normal(size=(3000, 1, 48)) * np.linspace(0.1, 2, 3000)[:, None, None]
    undisturbed = select(list(rows), 300, device="cpu")
    with subprocess.Popen(command(path, 60, 0.05), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "on the way\n"
        child.send_signal(end)
        left, _ = child.communicate(timeout=60)
    assert child.returncode == -end
    assert left == ""
    done = len(json.loads(path.read_text())["runs"]["gain"]["indices"])
    assert 59 <= done < 300

    resumed = subprocess.run(command(path, done + 1), capture_output=True, text=True, check=True)
    assert resumed.stdout == f"on the way\n{undisturbed.indices.tolist()}\n"
    assert not path.exists()


def test_saves_are_seconds_apart(blocks: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "_SECONDS_BETWEEN", 1e6)
    path = tmp_path / "checkpoint.json"
    seen: list[bool] = []
    select(blocks, 5, checkpoint=path, on_progress=lambda _: seen.append(path.exists()))
    assert seen == [False] * 5


@pytest.mark.parametrize(
    "changed",
    [
        {"budget": 13},
        {"budget_unit": "tokens"},
        {"algorithm": "naive"},
        {"regularization": 2.0},
        {"include": [4]},
        {"exclude": [4]},
        {"stop_below": 0.1},
        {"groups": ["a"] * 35, "quotas": {"a": 9}},
        {"already_selected": [np.eye(6)]},
        {"project_to": 3},
        {"criterion": "v-optimal", "target": [np.eye(6)]},
        {"blocks": [np.eye(6)] * 35},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_checkpoint_of_another_problem_is_refused_and_kept(
    blocks: list[np.ndarray], changed: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.json"
    asked: dict[str, Any] = {"blocks": blocks, "budget": 12, "checkpoint": path}
    with pytest.raises(KeyboardInterrupt):
        select(**asked, on_progress=interrupt_at(3))
    before = path.read_text()
    with pytest.raises(InputError, match=r"checkpoint\.json is the checkpoint of another selection"):
        select(**(asked | changed))
    assert path.read_text() == before


def test_blocks_that_differ_in_two_signs_are_another_problem(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.json"
    with pytest.raises(KeyboardInterrupt):
        select([np.ones((2, 4))], 1, checkpoint=path, on_progress=interrupt_at(1))
    with pytest.raises(InputError, match="another selection"):
        select([[[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]]], 1, checkpoint=path)


@pytest.mark.parametrize("content", ["", "no json", "[1, 2]", "3", '{"problem": "x"}', '"text"', "null", b"\xff\xfe"])
def test_a_file_that_is_no_checkpoint_is_refused_and_kept(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"notes\.txt is not a checkpoint of a selection .*; remove it"):
        select([np.eye(2)], 1, checkpoint=path)
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
