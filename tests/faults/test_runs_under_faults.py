"""Whole runs that are killed, doubled, or have a failing store end with the artifacts of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from fishersft.cli import app
from fishersft.config import CurateConfig
from fishersft.data import claims
from tests.faults.proxy import FAULTS, FaultProxy
from tests.faults.whole_run import contents, publications, small_config, start_run, warm_up

_AWS = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")


@pytest.fixture
def config(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_judge_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> CurateConfig:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = str(tmp_path / "stores") if request.param == "folder" else str(request.getfixturevalue("bucket"))
    return small_config(tmp_path, tiny_judge_folder, f"{root}/killed")


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in (*_AWS, "XDG_CACHE_HOME") if name in os.environ}


def undisturbed(config: CurateConfig, said: Path) -> tuple[dict[str, str], float]:
    """The artifacts of a run that nothing befalls, in a store of its own, and the seconds it took."""
    warm_up()
    time.sleep(2.1)  # a corpus that was written just now gives no listing, as it may change without showing it
    started = time.monotonic()
    config = config.model_copy(update={"store": f"{config.store}-undisturbed"})
    process = start_run(config, environment(), said)
    process.join()
    assert process.exitcode == 0
    return contents(config.store), time.monotonic() - started


@pytest.mark.parametrize(
    ("config", "kills"),
    [
        ("folder", 3),
        pytest.param("s3", 30, marks=pytest.mark.faults),
        pytest.param("folder", 30, marks=pytest.mark.faults),
    ],
    indirect=["config"],
)
def test_a_run_that_is_killed_again_and_again_ends_as_if_nothing_had_been(
    config: CurateConfig, kills: int, tmp_path: Path
) -> None:
    expected, seconds = undisturbed(config, tmp_path / "said")
    moments, killed, runs = random.Random(kills), 0, 0
    while killed < kills:
        runs += 1
        fresh = config.model_copy(update={"store": f"{config.store}-{runs}", "output": f"{config.output}-{runs}"})
        published: dict[str, object] = {}
        while True:
            process = start_run(fresh, environment(), tmp_path / "said")
            process.join(moments.uniform(0.05, seconds / 5) if killed < kills else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            killed += 1
            now = publications(fresh.store)
            assert published.items() <= now.items(), "what was finished is neither lost nor made again"
            published = now
        assert process.exitcode == 0
        assert contents(fresh.store) == expected
        assert published.items() <= publications(fresh.store).items()
    drafts = Path(f"{config.store}-{runs}", ".drafts")
    assert not drafts.exists() or list(drafts.iterdir()) == []


@pytest.mark.faults
@pytest.mark.parametrize("config", ["folder", "s3"], indirect=True)
def test_two_runs_at_once_end_well_and_make_each_artifact_once(config: CurateConfig, tmp_path: Path) -> None:
    expected, _ = undisturbed(config, tmp_path / "said")
    said = [tmp_path / "one", tmp_path / "other"]
    outputs = [f"{config.output}-{path.name}" for path in said]
    processes = [
        start_run(config.model_copy(update={"output": output}), environment(), path)
        for output, path in zip(outputs, said, strict=True)
    ]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert contents(config.store) == expected
    made = [artifact for path in said for artifact in json.loads(path.read_text())]
    assert sorted(made) == sorted(set(made))


@pytest.mark.parametrize("faults", [30, pytest.param(200, marks=pytest.mark.faults)])
def test_a_selection_over_a_failing_store_makes_the_artifacts_of_an_undisturbed_one(
    store_url: str,
    proxy: FaultProxy,
    faults: int,
    tmp_path: Path,
    tiny_judge_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "STALE_AFTER", 3.0)
    monkeypatch.setattr(claims, "RENEWED_EVERY", 0.5)

    def select() -> dict[str, str]:
        url = f"{store_url}-{uuid.uuid4().hex}"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / url.rsplit("/", 1)[1]))
        config = small_config(tmp_path, tiny_judge_folder, url)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_defaults=True)))
        done = CliRunner().invoke(app, ["select", str(tmp_path / "config.yaml")], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        proxy.be_healthy()
        return contents(url)

    expected = select()
    assert len(expected) > 20
    seed = 0
    while proxy.injected.total() < faults:
        seed += 1
        proxy.inject(FAULTS, share=0.15, seed=seed)
        assert select() == expected
