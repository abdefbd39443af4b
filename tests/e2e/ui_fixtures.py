"""A server with `curate/manual` and `compare/weekly` on a process pool, a worker, and Chromium before its UI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect, sync_playwright
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.integration.conftest import chromium, prefect_server  # noqa: F401  fixtures
from tests.integration.test_pages_in_browser import ARGUMENTS
from tests.prefect_server import ROOT, PrefectServer, until

POOL = "fishersft"
PATIENCE = 60_000  # milliseconds that a page may take


@dataclass(frozen=True)
class Ui:
    """A server with a worker, and what is on it; `corpus` is a file of 60 verses, `settings` the form's defaults."""

    server: PrefectServer
    corpus: Path
    settings: dict[str, Any]

    def start(self, **changes: Any) -> str:
        """Starts a run of curate/manual as the API does; its id."""
        config = {**self.settings, "corpus": {**self.settings["corpus"], "path": str(self.corpus)}, **changes}
        return self.server.start_run("curate/manual", {"config": config})

    def wait(self, run: str, *states: str) -> str:
        """The state of the run, once it is one of these."""
        until(lambda: self.server.state(run) in states, f"{run} is {states}")
        return self.server.state(run)

    def artifact(self, key: str) -> dict[str, Any]:
        """The last artifact of that key."""
        wanted = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC"}
        return self.server.post("artifacts/filter", wanted)[0]


@pytest.fixture(scope="module")
def ui(
    prefect_server: PrefectServer,  # noqa: F811
    tokenizer: PreTrainedTokenizerFast,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Ui]:
    """The server with its deployments and a worker; their defaults are a tiny model's."""
    folder = tmp_path_factory.mktemp("worker")
    _tiny_model(folder / "tiny-llama", tokenizer)
    lines = (f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(60))
    (folder / "verses.txt").write_text("".join(lines))
    settings = {
        "name": "verses",
        "store": str(folder / "store"),
        "output": str(folder / "output"),
        "corpus": {"held_out_fraction": 0.25},
        "model": {"path": str(folder / "tiny-llama"), "max_tokens": 32},
        "selection": {"budget_unit": "sentences"},
        "embedding": {"shard_rows": 30},
        "finetune": {"epochs": 1, "batch_tokens": 64},
        "evaluation": {"prompts": 3, "prompt_tokens": 4, "new_tokens": 4, "judging": {"calibration_pairs": 4}},
    }
    server = prefect_server.with_environment(OMP_NUM_THREADS="1")
    server.module("fishersft.cli", "deploy", cwd=ROOT)
    manual = server.deployment("curate/manual")["id"]
    server.patch(f"deployments/{manual}", {"parameters": {"config": settings}})  # so that the form has a tiny model
    with server.worker(POOL, folder / "worker.log", limit=4):
        yield Ui(server, folder / "verses.txt", settings)


@pytest.fixture(scope="module")
def page(chromium: str) -> Iterator[Page]:  # noqa: F811
    """A page of headless Chromium, large enough for a whole form."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1300, "height": 1100})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        # The graph of a run's page is drawn without a GPU here, which takes all of the processor.
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        yield page
        browser.close()


def _tiny_model(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """A random model of one layer, whose context is long enough for a judge's question."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
