"""Every device computes for one thread at a time, and all of them at once; each keeps its model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event

import pytest
import torch

from fishersft.steps import models
from fishersft.steps.models import SPREAD, PreparedModel, computing_device, devices_of, loaded_model


def test_as_many_threads_compute_as_there_are_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "devices_of", lambda _: ["one", "other"])
    both, entered, done = Barrier(3), Event(), Event()

    def compute() -> str:
        with computing_device(None) as device:
            both.wait(timeout=30)
            done.wait(timeout=30)
        return device

    def come_third() -> str:
        with computing_device(None) as device:
            entered.set()
        return device

    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(compute) for _ in range(2)]
        both.wait(timeout=30)  # two are in
        third = threads.submit(come_third)
        assert not entered.wait(timeout=0.2)
        done.set()
        assert sorted(future.result() for future in first) == ["one", "other"]
        assert third.result() in ("one", "other")


def test_a_device_that_an_error_leaves_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "devices_of", lambda _: ["the only one"])
    with pytest.raises(ValueError, match="on the way"), computing_device(None):
        raise ValueError("on the way")
    with computing_device(None) as device:
        assert device == "the only one"


def test_a_device_that_is_named_is_the_only_one() -> None:
    assert devices_of("cuda:3") == ["cuda:3"]


def test_threads_that_ask_for_a_model_at_once_get_the_same_one(tiny_model_folder: Path) -> None:
    model, together = PreparedModel(tiny_model_folder, 64, "its tokenizer", "asked for at once"), Barrier(4)

    def ask() -> object:
        together.wait(timeout=30)
        return loaded_model(model, "float32", "cpu", False)

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask) for _ in range(4)]
        assert len({id(future.result()) for future in asked}) == 1


def test_a_model_stays_loaded_until_another_takes_its_place(tiny_model_folder: Path) -> None:
    one = PreparedModel(tiny_model_folder, 64, "its tokenizer", "a")
    other = PreparedModel(tiny_model_folder, 64, "its tokenizer", "b")
    first = loaded_model(one, "float32", "cpu", False)
    assert loaded_model(one, "float32", "cpu", False) is first
    assert loaded_model(other, "float32", "cpu", False) is not first
    assert loaded_model(one, "float32", "cpu", False) is not first


def test_a_model_that_is_spread_gives_what_it_gives_on_one_device(tiny_model_folder: Path) -> None:
    model = PreparedModel(tiny_model_folder, 64, "its tokenizer", "a")
    ids = torch.arange(1, 9)[None]
    with torch.inference_mode():
        states = [
            loaded_model(model, "float32", device, False).base_model(input_ids=ids).last_hidden_state
            for device in (SPREAD, "cpu")
        ]
    torch.testing.assert_close(*states)
