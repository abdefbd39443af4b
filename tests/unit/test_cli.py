"""The command line, without Prefect: embed, select, report, config, and errors without a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from fishersft import cli, terminal
from fishersft.config import CurateConfig
from fishersft.data.block_files import read_blocks, write_blocks
from fishersft.errors import InputError
from fishersft.numerics import TokenBlocks, select


@pytest.fixture(autouse=True)
def wide_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "console", Console(width=200))


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def config_file(tmp_path: Path, tiny_model_folder: Path) -> Path:
    (tmp_path / "verses.txt").write_text("".join(f"verse {i} of {'may ' * (i % 7 + 1)}\n" for i in range(40)))
    settings = {
        "corpus": {"path": str(tmp_path / "verses.txt"), "held_out_fraction": 0.2},
        "model": {"path": str(tiny_model_folder)},
        "embedding": {"shard_rows": 12},
        "selection": {"budget": 5, "budget_unit": "sentences"},
        "store": str(tmp_path / "store"),
        "output": str(tmp_path / "output"),
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture
def block_file(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "blocks.npz", values=values, offsets=np.arange(0, 61, 3))
    return tmp_path / "blocks.npz"


def test_version_and_help() -> None:
    assert run("--version").strip() == f"fishersft {version('fishersft')}"
    help_text = run("--help")
    assert all(command in help_text for command in ("curate", "embed", "select", "report", "config"))


def test_config_prints_yaml_that_is_a_config() -> None:
    assert CurateConfig.model_validate(yaml.safe_load(run("config"))).selection.budget == 20_000


def test_embed_makes_artifacts_and_finds_them_again(config_file: Path) -> None:
    first = run("embed", config_file)
    assert "made" in first and "found" not in first
    again = run("embed", config_file)
    assert "found in the store" in again and "made" not in again


def test_select_with_a_config_writes_the_curated_dataset(config_file: Path, tmp_path: Path) -> None:
    printed = run("select", config_file, "--budget", "7 examples")
    assert "Selected 7 of 3" in printed and f"dataset: {tmp_path}/output/dataset" in printed
    lines = (tmp_path / "output" / "dataset" / "curated.jsonl").read_text().splitlines()
    assert [json.loads(line)["fishersft_rank"] for line in lines] == list(range(1, 8))


def test_select_with_a_budget_beyond_the_corpus_takes_all_and_says_so(config_file: Path) -> None:
    printed = run("select", config_file, "--budget", "1M")
    assert "The budget covers every example that has a token to learn from." in printed


def test_select_needs_no_configuration_and_chooses_towards_the_target(
    config_file: Path, tmp_path: Path, tiny_model_folder: Path
) -> None:
    pool, target = tmp_path / "verses.txt", tmp_path / "mine.jsonl"
    target.write_text("".join(json.dumps({"text": f"{'may ' * n}be"}) + "\n" for n in range(1, 5)))
    places = ("--model", tiny_model_folder, "--output", tmp_path / "chosen", "--set", f"store={tmp_path / 'store'}")
    printed = run("select", pool, "--target", target, "--budget", "0.05k", *places)
    assert "Criterion: gradient-matching (auto: there is a target)" in printed
    assert "times as far from the one aimed at as that of a random selection" in printed
    lines = [json.loads(line) for line in (tmp_path / "chosen/dataset/curated.jsonl").read_text().splitlines()]
    assert abs(sum(line["fishersft_tokens"] for line in lines) - 50) <= 10  # to the nearest whole example
    assert lines[0]["text"] in printed and {line["text"] for line in lines} < set(pool.read_text().splitlines())
    spelt_out = ("--set", "selection.criterion=gradient-matching", "--budget", "50 tokens")
    assert " selection 1 found in" in " ".join(run("select", pool, "--target", target, *spelt_out, *places).split())
    assert "Criterion: information (auto: there is no target to choose towards)" in run("select", pool, *places)
    again = run("select", pool, "--criterion", "information", *places)
    assert " selection 1 found in" in " ".join(again.split())


def test_a_config_stands_alone(config_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a CONFIG\.yaml stands alone, but 2 sources were given"):
        run("select", config_file, tmp_path / "verses.txt")


def test_select_chooses_which_prompts_to_have_answered(tmp_path: Path, tiny_model_folder: Path) -> None:
    pool = tmp_path / "prompts.jsonl"
    pool.write_text("".join(json.dumps({"prompt": f"What is {'may ' * n}{n}?"}) + "\n" for n in range(12)))
    places = ("--model", tiny_model_folder, "--output", tmp_path / "chosen", "--set", f"store={tmp_path / 'store'}")
    printed = run("select", pool, "--budget", "3", *places)
    assert "Criterion: information (auto: rows hold prompts without answers, whose gradients are not known)" in printed
    assert "12 rows read as prompts (prompt)" in printed and "Selected 3 of 12 examples" in printed
    chosen = [
        json.loads(line)["prompt"] for line in (tmp_path / "chosen/dataset/curated.jsonl").read_text().splitlines()
    ]
    assert len(set(chosen)) == 3
    shown = run("corpus", pool, *places[4:], "--set", f"model.path={tiny_model_folder}")
    assert "prompt tokens in 12 rows" in shown and "What is 0?" in shown


def test_select_with_blocks_alone_writes_the_same_picks_as_the_library(block_file: Path, tmp_path: Path) -> None:
    printed = run("select", block_file, "--budget", "9", "--output", tmp_path / "picks.parquet")
    assert "3 examples, 9 tokens" in printed
    file = np.load(block_file)
    expected = select(np.split(file["values"], 20), 9, budget_unit="tokens")
    assert pq.read_table(tmp_path / "picks.parquet")["block"].to_pylist() == expected.indices.tolist()


def test_select_takes_an_embeddings_artifact(config_file: Path, tmp_path: Path) -> None:
    run("embed", config_file)
    folder = next(tmp_path.glob("store/embeddings/*/*/embeddings.safetensors")).parent
    assert "2 examples" in run("select", folder, "--budget", "2 examples")


def test_select_weighs_tokens_by_the_weights_beside_the_blocks(block_file: Path, tmp_path: Path) -> None:
    file = np.load(block_file)
    weights = np.random.default_rng(1).uniform(size=60)
    np.savez(tmp_path / "weighted.npz", **file, weights=weights)
    weighted = file["values"] * np.sqrt(weights)[:, None]
    expected = select(np.split(weighted, 20), 5).indices.tolist()
    picks = tmp_path / "picks.parquet"
    run(
        "select",
        tmp_path / "weighted.npz",
        "--budget",
        "5 examples",
        "--criterion",
        "fisher-weighted",
        "--output",
        picks,
    )
    assert pq.read_table(picks)["block"].to_pylist() == expected
    run("select", tmp_path / "weighted.npz", "--budget", "5 examples", "--output", picks)
    assert pq.read_table(picks)["block"].to_pylist() != expected


def test_select_with_a_config_embeds_the_weights_that_the_criterion_needs(config_file: Path, tmp_path: Path) -> None:
    run("select", config_file, "--criterion", "fisher-weighted")
    (file, *others) = tmp_path.glob("store/embeddings/*/*/embeddings.safetensors")
    weighted = run("select", file, "--budget", "2 examples", "--criterion", "fisher-weighted")
    assert others and "2 examples" in weighted


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--budget is required"),
        (("--budget", "0"), "budget: Input should be greater than or equal to 1"),
        (("--budget", "3", "--algorithm", "magic"), "algorithm: Input should be 'lazy', 'paper' or 'naive'"),
        (("--budget", "3", "--criterion", "fisher-weighted"), r"blocks\.npz: expected weights \(tokens,\)"),
        (("--budget", "3", "--set", "seed=1"), "--set and --model are for a corpus"),
        (("--budget", "3", "--criterion", "v-optimal"), "criterion v-optimal needs a target, token blocks"),
        (("--budget", "3", "--criterion", "gradient-matching"), "needs gradients, which token blocks have not"),
        (
            ("--budget", "3", "--target", "t.npz"),
            "no other criterion takes one; give both",
        ),
        (("--budget", "3", "--include", "3;4"), "--include 3;4: expected block numbers with commas"),
        (("--budget", "3", "--exclude-file", "none.parquet"), r"none\.parquet: no such file; expected picks"),
        (("--budget", "3", "--exclude", "99"), "exclude names block 99; there are 20"),
        (("--budget", "3", "--output", "picks.csv"), r"picks\.csv: picks are written as \.parquet"),
    ],
)
def test_wrong_selection_settings_are_refused(block_file: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run("select", block_file, *words)


def test_options_for_blocks_are_refused_with_a_config(config_file: Path) -> None:
    with pytest.raises(InputError, match="--include is for token blocks; with a corpus use --set"):
        run("select", config_file, "--include", "3")


def test_an_error_is_one_message_without_a_traceback_and_status_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fishersft.cli", "embed", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/none.yaml: no such file; `fishersft config")
    assert "Traceback" not in done.stderr


def picked(*words: str | Path) -> list[int]:
    picks = next(Path(word) for word in words if str(word).endswith("picks.parquet"))
    run("select", *words)
    return pq.read_table(picks)["block"].to_pylist()


def test_conditions_on_blocks_are_those_of_the_library(block_file: Path, tmp_path: Path) -> None:
    blocks = np.split(np.load(block_file)["values"], 20)
    picks = tmp_path / "picks.parquet"
    plain = picked(block_file, "--budget", "4 examples", "--output", picks)
    (tmp_path / "old.parquet").write_bytes(picks.read_bytes())
    first, second, third = [i for i in range(20) if i not in plain][:3]
    conditions = ("--include", f"{second},{first}", "--exclude", str(third), "--exclude-file", tmp_path / "old.parquet")
    chosen = picked(block_file, "--budget", "4 examples", *conditions, "--output", picks)
    expected = select(blocks, 4, include=[first, second], exclude=[third, *plain])
    assert chosen == expected.indices.tolist()
    assert set(chosen[:2]) == {first, second} and not {third, *plain} & set(chosen)

    known = ("--already-selected", block_file, "--regularization", "0.1", "--regularization-unit", "mean token energy")
    expected = select(blocks, 4, already_selected=blocks, regularization=0.1, regularization_unit="mean token energy")
    assert picked(block_file, "--budget", "4 examples", *known, "--output", picks) == expected.indices.tolist()
    np.testing.assert_allclose(pq.read_table(picks)["gain"].to_numpy(), expected.gains, rtol=1e-6)


def test_several_block_files_are_one_pool(block_file: Path, tmp_path: Path) -> None:
    file = np.load(block_file)
    np.savez(tmp_path / "a.npz", values=file["values"][:30], offsets=np.arange(0, 31, 3))
    np.savez(tmp_path / "b.npz", values=file["values"][30:], offsets=np.arange(0, 31, 3))
    picks = tmp_path / "picks.parquet"
    whole = picked(block_file, "--budget", "6 examples", "--output", picks)
    assert picked(tmp_path / "a.npz", tmp_path / "b.npz", "--budget", "6 examples", "--output", picks) == whole
    assert max(whole) >= 10


def test_the_v_optimal_criterion_has_a_target_and_no_certificate(block_file: Path, tmp_path: Path) -> None:
    target = np.random.default_rng(5).normal(size=(6, 4)) * [9, 1, 1, 0.1]
    np.savez(tmp_path / "target.npz", values=target, offsets=np.array([0, 6]))
    v_optimal = ("--criterion", "v-optimal", "--target", tmp_path / "target.npz")
    printed = run("select", block_file, "--budget", "4 examples", *v_optimal)
    assert "No certificate: the criterion v-optimal is not submodular" in printed and "of the best" not in printed
    expected = select(np.split(np.load(block_file)["values"], 20), 4, criterion="v-optimal", target=[target])
    before = float((target**2).sum() / 6)
    assert f"{before:.4g} before, {before - expected.gains.sum():.4g} after" in printed


def test_the_proof_is_named_and_a_projection_says_what_it_overlooked(block_file: Path) -> None:
    assert "within its budget, proven by the prefix bound" in run("select", block_file, "--budget", "4 examples")
    printed = run("select", block_file, "--budget", "4 examples", "--certificate", "frank-wolfe", "--project-to", "3")
    assert "proven by the dual of the relaxation (Frank-Wolfe)" in printed and "overlooked at most" in printed


def test_a_run_on_blocks_goes_on_from_what_lies_beside_its_output(
    block_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fishersft.numerics.greedy import Picks

    picks = tmp_path / "picks.parquet"
    take, taken = Picks.take, list[int]()

    def cut_short(self: Picks, index: int, gain: float) -> bool:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(index)
        return take(self, index, gain)

    monkeypatch.setattr(Picks, "take", cut_short)
    assert (
        CliRunner()
        .invoke(cli.app, ["select", str(block_file), "--budget", "6 examples", "--output", str(picks)])
        .exit_code
    )
    partial = tmp_path / "picks.parquet.partial.json"
    assert json.loads(partial.read_text())["runs"]["gain"]["indices"] == taken
    monkeypatch.setattr(Picks, "take", take)
    chosen = picked(block_file, "--budget", "6 examples", "--output", picks)
    assert chosen[:3] == taken and not partial.exists()
    assert chosen == select(np.split(np.load(block_file)["values"], 20), 6).indices.tolist()


def test_blocks_that_stay_on_disk_give_the_same_picks(block_file: Path, tmp_path: Path) -> None:
    blocks = read_blocks(block_file)
    for name, some in (("a", range(10)), ("b", range(10, 20))):
        write_blocks(TokenBlocks.from_sequence([blocks[i] for i in some]), tmp_path / f"{name}.safetensors")
    files = (tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    picks = tmp_path / "picks.parquet"
    whole = picked(block_file, "--budget", "6 examples", "--output", picks)
    assert picked(*files, "--budget", "6 examples", "--memory", "64K", "--output", picks) == whole
    with pytest.raises(InputError, match="--memory much: expected bytes, or a number with K, M, G or T"):
        run("select", *files, "--budget", "6 examples", "--memory", "much")
    with pytest.raises(InputError, match=r"expected weights \(tokens,\)"):
        run("select", *files, "--budget", "6 examples", "--memory", "1M", "--criterion", "fisher-weighted")


def test_a_selection_from_projected_embeddings_says_what_it_cannot_see(config_file: Path) -> None:
    said = run("select", config_file, "--set", "embedding.project_to=4")
    assert "In 4 of 32 random directions, which hold" in said and "of the picks' gain are in the others" in said


def test_stopping_below_a_gain_is_said(block_file: Path) -> None:
    assert "Stopped before the budget was spent" in run(
        "select", block_file, "--budget", "20 examples", "--stop-below", "1"
    )


def test_a_bar_shows_the_note_of_a_step() -> None:
    bars = terminal.progress_bars()
    update = terminal.bar(bars, "selecting")
    update(1, 4, "1 picks, 3 nats")
    (task,) = bars.tasks
    assert (task.completed, task.total, task.fields["note"]) == (1, 4, "1 picks, 3 nats")


def test_help_groups_the_options_of_select() -> None:
    help_text = run("select", "--help")
    panels = [help_text.index(f"─ {panel} ─") for panel in ("What", "Budget", "Criterion", "Conditions", "Proof")]
    assert panels == sorted(panels)


def test_every_experiment_of_reproduce_has_settings_that_are_right() -> None:
    from fishersft.config.simulation import SimulationConfig
    from fishersft.config.speed import SpeedConfig
    from fishersft.reproduce_cli import _preset

    for name in ("synthetic", "convergence", "word-embeddings", "own-tokens", "own-tokens-redrawn"):
        assert _preset(name, ["repeats=5"], SimulationConfig).repeats == 5
    assert _preset("speed", None, SpeedConfig).budgets[0] == 1
