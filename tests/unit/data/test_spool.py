"""Texts on local scratch come back as they were, from any thread, and leave nothing behind."""

from __future__ import annotations

import random
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fishersft.data.spool import Spool
from fishersft.errors import InputError


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))), st.randoms())
def test_texts_come_back_in_any_order(texts: list[str], draw: random.Random) -> None:
    with Spool() as spool:
        places = [spool.append(text) for text in texts]
        shuffled = draw.sample(places, len(places))
        assert spool.read(shuffled) == [texts[place] for place in shuffled]


def test_more_than_is_written_at_once_comes_back_from_several_threads() -> None:
    texts = [f"{number} — " + "é" * 3000 for number in range(2000)]
    with Spool() as spool, ThreadPoolExecutor(4) as threads:
        places = [spool.append(text) for text in texts]
        pieces = threads.map(spool.read, [places[i : i + 100] for i in range(0, 2000, 100)])
        assert [text for piece in pieces for text in piece] == texts


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_nothing_is_left_on_scratch(scratch: Path) -> None:
    spool = Spool()
    assert spool.read([spool.append("text")]) == ["text"]
    assert not list(scratch.iterdir()), "the file has no name: it vanishes with the process however that ends"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_a_full_disk_is_an_error_that_names_the_folder_and_the_remedy(
    scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on_a_full_disk(buffering: int) -> IO[bytes]:
        return open("/dev/full", "r+b", buffering=buffering)

    monkeypatch.setattr(tempfile, "TemporaryFile", on_a_full_disk)
    with Spool() as spool:
        spool.append("short")
        with pytest.raises(InputError, match=rf"no space left on the disk in {scratch}, .* set TMPDIR"):
            spool.append("x" * (1 << 20))
