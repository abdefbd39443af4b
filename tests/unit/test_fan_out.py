"""Sub-runs on workers, with a stand-in for Prefect's server: which are lost, what is taken up again, how it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Completed, Failed, Pending, Running, Scheduled

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import open_store
from tasks import fan_out, sub_runs
from tasks.sub_runs import SubRun, Workers

WORKERS = Workers("embed-shards/gpu", "fishersft-gpu", at_once=1)


@dataclass
class Server:
    """Has a state for each sub-run; `work` does a new one's work and says how it ended."""

    work: Callable[[dict[str, Any], int], State]
    states: dict[UUID, State] = field(default_factory=dict)
    shards: list[list[str]] = field(default_factory=list)

    def run_deployment(self, name: str, parameters: dict[str, Any], **_: object) -> FlowRun:
        run = FlowRun(id=uuid4(), flow_id=uuid4())
        self.shards.append(parameters["shards"])
        self.states[run.id] = self.work(parameters, len(self.shards))
        return run

    def read_flow_runs(self, flow_run_filter: Any) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(id=run, state=self.states[run]) for run in flow_run_filter.id.any_ if run in self.states
        ]

    def set_flow_run_state(self, run: UUID, state: State, force: bool = False) -> None:
        self.states[run] = state


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    corpus = tmp_path / "verses.txt"
    corpus.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(40)))
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(corpus)},
            "model": {"path": str(tiny_model_folder)},
            "embedding": {"shard_rows": 4, "deployment": "embed-shards/gpu"},
            "store": str(tmp_path / "store"),
        }
    )


@pytest.fixture
def shards(config: CurateConfig) -> list[str]:
    return read_corpus(open_store(config.store), config).facts["shard_keys"]


def embed_all(parameters: dict[str, Any], _: int) -> State:
    config = CurateConfig.model_validate(parameters["config"])
    for shard in parameters["shards"]:
        embed_shard(Store(config.store), config, shard)
    return Completed()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any], int], State]], Server]:
    """Puts a stand-in in the place of Prefect's server."""

    def serve(work: Callable[[dict[str, Any], int], State]) -> Server:
        server = Server(work)
        monkeypatch.setattr(sub_runs, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(sub_runs, "get_client", lambda sync_client: nullcontext(server))
        monkeypatch.setattr(fan_out, "run_deployment", server.run_deployment)
        monkeypatch.setattr(fan_out, "Progress", lambda *_: lambda done, total: None)
        for module in (fan_out, sub_runs):
            monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("fan out"))
        return server

    return serve


def embed(config: CurateConfig, shards: list[str]) -> list[str]:
    return fan_out.embed_on_workers.fn(config, WORKERS, shards, "the corpus")


def test_every_missing_shard_is_given_to_one_worker(serve: Any, config: CurateConfig, shards: list[str]) -> None:
    server, store = serve(embed_all), open_store(config.store)
    first = embed_shard(store, config, shards[0]).key
    made = embed(config, shards)
    assert sorted(shard for batch in server.shards for shard in batch) == sorted(shards[1:])
    assert len(made) == len(shards) - 1 and first not in made
    assert embed(config, shards) == [] and all(embed_shard(store, config, shard).hit for shard in shards)


def test_what_workers_made_counts_as_made_by_the_run(serve: Any, config: CurateConfig, shards: list[str]) -> None:
    serve(embed_all)
    told: list[tuple[str, str, bool]] = []
    store = open_store(config.store)
    store.on_use.append(lambda kind, key, hit: told.append((kind, key, hit)))
    made = embed(config, shards)
    assert [("embeddings", key, False) for key in made] == [use for use in told if use[0] == "embeddings"]


def test_shards_of_a_failed_sub_run_are_taken_up_again(serve: Any, config: CurateConfig, shards: list[str]) -> None:
    server = serve(lambda given, number: Failed(message="boom") if number == 1 else embed_all(given, number))
    embed(config, shards)
    assert sorted(shard for batch in server.shards[1:] for shard in batch) == sorted(shards)


def test_a_running_sub_run_without_a_sign_of_life_is_crashed_and_its_shards_are_taken_up_again(
    serve: Any, config: CurateConfig, shards: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sub_runs, "LOST_AFTER", 0.2)
    server = serve(lambda given, number: Running() if number == 2 else embed_all(given, number))
    embed(config, shards)
    lost = list(server.states.values())[1]
    assert lost.is_crashed() and "Running, without a sign of life for 0 s" in str(lost.message)
    assert sorted(shard for batch in server.shards for shard in batch) == sorted([*shards, *server.shards[1]])


def test_what_three_rounds_do_not_embed_is_one_clear_error(serve: Any, config: CurateConfig, shards: list[str]) -> None:
    bad = shards[2]

    def work(given: dict[str, Any], number: int) -> State:
        embed_all({**given, "shards": [shard for shard in given["shards"] if shard != bad]}, number)
        return Failed(message="InputError: NaN") if bad in given["shards"] else Completed()

    server = serve(work)
    with pytest.raises(
        InputError,
        match=rf"^1 of {len(shards)} shards of the corpus are not embedded after 3 rounds on embed-shards/gpu, the "
        rf"first is {bad[:12]}\. The last fault: embed the corpus, round 3: batch 1 of 1: Failed: InputError: NaN\.",
    ):
        embed(config, shards)
    assert server.shards[-2:] == [[bad], [bad]]


def test_workers_with_another_store_are_named_as_such(serve: Any, config: CurateConfig, shards: list[str]) -> None:
    serve(lambda given, number: Completed())
    with pytest.raises(InputError, match="its worker sees another store or another model"):
        embed(config, shards)


def test_sub_runs_that_were_submitted_are_cancelled_where_the_run_breaks_off(
    serve: Any, config: CurateConfig, shards: list[str]
) -> None:
    def work(given: dict[str, Any], number: int) -> State:
        if number == 3:
            raise KeyboardInterrupt
        return Scheduled()

    server = serve(work)
    with pytest.raises(KeyboardInterrupt):
        embed(config, shards)
    assert [state.name for state in server.states.values()] == ["Cancelling", "Cancelling"]


def test_a_sub_run_that_waits_for_a_worker_is_never_lost_and_a_pending_one_has_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(sub_runs, "time", SimpleNamespace(monotonic=lambda: now))
    run = SubRun(uuid4(), "embed", [], seen=now)

    def lost(state: State) -> bool:
        return run.is_lost(state.type, {})

    for state, patience in ((Scheduled(), 1e9), (Pending(), sub_runs.STARTS_WITHIN), (Running(), sub_runs.LOST_AFTER)):
        assert not lost(state)
        now += patience
        assert not lost(state)
    now += 1
    assert lost(Running())
