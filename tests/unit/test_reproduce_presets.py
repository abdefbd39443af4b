"""Every experiment's settings are what its config takes, and the forms of the language-model experiment differ."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fishersft import reproduce_cli
from fishersft.config.compare import CompareConfig
from fishersft.config.files import load_settings
from fishersft.config.simulation import SimulationConfig
from fishersft.config.speed import SpeedConfig
from fishersft.errors import InputError
from fishersft.reproduce_cli import reproduce_app
from fishersft.steps.instructions import write_prompts_and_completions

PRESETS = resources.files("fishersft.experiments").joinpath("presets")
MISSING = {"language-model": ("name", "any"), "weak-to-strong": ("finetune.model.path", "stronger")}
KINDS = {
    "speed": SpeedConfig,
    **dict.fromkeys(
        (
            "ceiling",
            "language-model",
            "criterion",
            "perplexity",
            "prompts",
            "rare-skills",
            "robustness",
            "tiny-target",
            "weak-to-strong",
        ),
        CompareConfig,
    ),
}


@pytest.mark.parametrize("name", [file.name.removesuffix(".yaml") for file in PRESETS.iterdir()])
def test_a_preset_has_all_settings_but_what_its_command_is_given(name: str) -> None:
    changes = ["=".join(MISSING[name])] if name in MISSING else []
    with resources.as_file(PRESETS.joinpath(f"{name}.yaml")) as path:
        assert load_settings(path, changes, KINDS.get(name, SimulationConfig))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CompareConfig]:
    """The settings of the comparisons that a command would run."""
    settings = list[CompareConfig]()
    monkeypatch.setattr(reproduce_cli, "_run", settings.append)
    return settings


@pytest.mark.parametrize(
    ("words", "name", "rows", "budgets"),
    [
        ([], "language-model", 11000, [100, 200, 500, 1000, 2000, 5000]),
        (["--short"], "language-model-short", 1100, [100]),
        (["--sherlock", "holmes.txt"], "language-model-sherlock", None, [100, 200, 500, 1000, 2000]),
        (["--sherlock", "holmes.txt", "--short", "--set", "budgets=[7]"], "language-model-sherlock-short", 1100, [7]),
    ],
)
def test_forms_of_the_language_model_experiment_have_their_own_corpus_budgets_and_folder(
    asked: list[CompareConfig], words: list[str], name: str, rows: int | None, budgets: list[int]
) -> None:
    done = CliRunner().invoke(reproduce_app, ["language-model", *words], catch_exceptions=False)
    assert done.exit_code == 0
    (config,) = asked
    assert (config.name, config.output, config.corpus.max_rows, config.budgets) == (
        name,
        f"output/{name}",
        rows,
        budgets,
    )
    assert (config.corpus.path == "holmes.txt") == ("--sherlock" in words)


def test_a_stronger_model_is_trained_with_all_weights_or_lora(asked: list[CompareConfig]) -> None:
    for words in ([], ["--lora"]):
        CliRunner().invoke(reproduce_app, ["weak-to-strong", "stronger", *words], catch_exceptions=False)
    assert [config.finetune.method for config in asked] == ["full", "lora"]
    assert all(config.finetune.model and config.finetune.model.path == "stronger" for config in asked)


@pytest.mark.parametrize("corpus", [None, "sherlock", "instructions"])
def test_the_criterion_is_tested_alike_on_each_corpus(
    asked: list[CompareConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tasks.jsonl").write_text(
        json.dumps({"instruction": "Add.", "instances": [{"input": "1 and 2", "output": "3"}]})
        + "\n"
        + json.dumps({"instruction": "Greet.", "instances": [{"input": "", "output": "Hello!"}]})
    )
    words = [f"--{corpus}", "tasks.jsonl"] if corpus else []
    CliRunner().invoke(reproduce_app, ["criterion", *words], catch_exceptions=False)
    CliRunner().invoke(reproduce_app, ["criterion"], catch_exceptions=False)
    config, plain = asked
    name = f"criterion-{corpus}" if corpus else "criterion"
    alike = ("methods", "budgets", "repeats", "finetune", "selection", "evaluation", "judged", "at_equal_sentences")
    assert all(getattr(config, setting) == getattr(plain, setting) for setting in alike)
    assert (config.name, config.output) == (name, f"output/{name}")
    assert (config.corpus.example == "prompt-completion") == (corpus == "instructions")
    assert (config.corpus.path == "tasks.jsonl") == (corpus == "sherlock")
    if corpus == "instructions":
        assert [json.loads(line) for line in Path(str(config.corpus.path)).read_text().splitlines()] == [
            {"prompt": "Add.\n1 and 2\n", "completion": "3"},
            {"prompt": "Greet.\n", "completion": "Hello!"},
        ]


def test_a_corpus_for_the_criterion_is_one_of_two(asked: list[CompareConfig]) -> None:
    done = CliRunner().invoke(reproduce_app, ["criterion", "--sherlock", "a.txt", "--instructions", "b.jsonl"])
    assert done.exit_code == 2 and not asked


def test_what_is_no_task_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"instruction": "Add.", "instances": []}\n')
    with pytest.raises(InputError, match=r"tasks.jsonl.*1.*is no task"):
        write_prompts_and_completions(file, tmp_path / "out.jsonl")
