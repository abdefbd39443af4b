"""The whole flow on real speeches with the real SmolLM2, against a real Prefect server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from fishersft.data.block_files import read_blocks
from fishersft.numerics import TokenBlocks, select
from fishersft.reporting.summary import RunReport, read_report
from tests.integration.conftest import CurationRun, curate

pytestmark = [pytest.mark.server, pytest.mark.real_model]


@pytest.fixture
def report(first_run: CurationRun) -> RunReport:
    return read_report(first_run.output / "report" / "report.json")


def test_the_first_run_prints_where_dataset_model_and_report_are(first_run: CurationRun) -> None:
    for what, path in (("dataset:", "dataset"), ("model:", "model"), ("report:", "report/index.html")):
        (line,) = [line for line in first_run.printed.splitlines() if line.startswith(what)]
        assert Path(line.split(maxsplit=1)[1]).samefile(first_run.output / path)


def test_the_curated_dataset_loads_with_rank_gain_and_tokens(first_run: CurationRun) -> None:
    loaded = datasets.load_dataset(str(first_run.output / "dataset"), split="train")
    assert loaded.column_names == ["speaker", "text", "fishersft_rank", "fishersft_gain", "fishersft_tokens"]
    assert list(loaded["fishersft_rank"]) == list(range(1, 9))
    assert all(gain > 0 for gain in loaded["fishersft_gain"])
    assert all(0 < tokens < 24 for tokens in loaded["fishersft_tokens"])


def test_the_fine_tuned_model_loads_and_writes(first_run: CurationRun) -> None:
    tokenizer = AutoTokenizer.from_pretrained(first_run.output / "model")
    model = AutoModelForCausalLM.from_pretrained(first_run.output / "model")
    written = model.generate(**tokenizer("Shall I compare thee", return_tensors="pt"), max_new_tokens=3)
    assert len(tokenizer.decode(written[0])) > len("Shall I compare thee")


def test_the_report_has_what_came_of_each_step(report: RunReport) -> None:
    assert [facts.method for facts in report.likelihoods] == ["base model", "information gain", "uniform"]
    assert all(facts.perplexity.low < facts.perplexity.value < facts.perplexity.high for facts in report.likelihoods)
    chosen, at_random = report.selections
    assert chosen.sentences == 8 and abs(chosen.tokens[-1] - at_random.tokens[-1]) < 24
    assert report.trainings[0].steps == report.trainings[1].steps > 0
    assert all(rate.wins + rate.losses + rate.ties == rate.prompts == 4 - rate.identical for rate in report.win_rates)
    assert report.corpus.pool + report.corpus.held_out == 60
    assert report.corpus.rows_read == report.corpus.unmatched + report.corpus.duplicates + (
        report.corpus.beyond_max_rows + report.corpus.blank + 60
    )
    assert {cost.step for cost in report.costs} >= {"embed the pool", "select", "fine-tune", "judge"}


def test_fine_tuning_helped_on_held_out_speeches(report: RunReport) -> None:
    base, informative, uniform = (facts.perplexity.value for facts in report.likelihoods)
    assert informative < base and uniform < base


def test_nothing_is_computed_the_second_time(first_run: CurationRun) -> None:
    again = curate(first_run.server, first_run.store, first_run.output)
    assert again.returncode == 0, again.stderr
    assert ": 0 made," in again.stdout
    assert "made in" not in again.stdout + again.stderr


def test_the_three_algorithms_pick_the_same_on_real_embeddings(first_run: CurationRun) -> None:
    files = sorted(first_run.store.glob("embeddings/*/*/embeddings.safetensors"))
    blocks = TokenBlocks.concatenate([read_blocks(file) for file in files])
    assert blocks.dim == 576 and len(blocks) > 30
    picks = [select(blocks, 8, algorithm=name) for name in ("naive", "paper", "lazy")]  # type: ignore[arg-type]
    assert picks[0].indices.tolist() == picks[1].indices.tolist() == picks[2].indices.tolist()
    np.testing.assert_allclose(picks[2].gains, picks[0].gains, rtol=1e-6)


def test_the_server_knows_the_run_its_tasks_its_artifacts_and_its_logs(first_run: CurationRun) -> None:
    server, run = first_run.server, first_run.flow_run
    assert run["state_type"] == "COMPLETED"
    found = server.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    tasks = {task["name"] for task in found}
    assert {"read the corpus", "select by information gain", "fine-tune on uniform", "write the report"} <= tasks
    artifacts = server.artifacts(run["id"])
    assert {artifact["type"] for artifact in artifacts} == {"markdown", "table", "progress"}
    summary = next(a["data"] for a in artifacts if a["key"] == "curate-shakespeare-summary")
    assert "information gain" in summary and "report/index.html" in str(artifacts)
    chosen = next(a["data"] for a in artifacts if a["key"] == "curate-shakespeare-chosen")
    assert len(json.loads(chosen)) == 8
    for method in ("information-gain", "uniform"):
        losses = next(a["data"] for a in artifacts if a["key"] == f"curate-shakespeare-losses-{method}")
        assert "Training loss: `" in losses and "| Epoch | Steps |" in losses
    assert "training " in server.log(run["id"])


def test_bad_input_is_one_clear_line_before_any_model_is_loaded(first_run: CurationRun, tmp_path: Path) -> None:
    corpus = tmp_path / "rows.jsonl"
    corpus.write_text('{"text": "Shall I"}\n{"verse": "compare thee"}\n')
    done = curate(
        first_run.server, tmp_path / "store", tmp_path / "output",
        f"corpus.path={corpus}", "corpus.format=auto", "corpus.pattern=null",
    )  # fmt: skip
    assert done.returncode == 2
    assert f"error: {corpus}:2 fits no format that we read; its fields are: verse; expected one of: " in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list(tmp_path.glob("store/model"))


def test_the_report_is_written_anew_from_its_data(first_run: CurationRun, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "fishersft.cli",
        "report",
        str(first_run.output / "report"),
        "--output",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").read_bytes() == (first_run.output / "report" / "index.html").read_bytes()
    assert "information gain" in " ".join(done.stdout.split())
