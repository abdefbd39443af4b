"""Every experiment's settings are what its config takes, and the forms of the language-model experiment differ."""

from __future__ import annotations

from importlib import resources

import pytest
from typer.testing import CliRunner

from fishersft import reproduce_cli
from fishersft.config.compare import CompareConfig
from fishersft.config.files import load_settings
from fishersft.config.simulation import SimulationConfig
from fishersft.config.speed import SpeedConfig
from fishersft.reproduce_cli import reproduce_app

PRESETS = resources.files("fishersft.experiments").joinpath("presets")
MISSING = {"language-model": ("name", "any"), "weak-to-strong": ("finetune.model.path", "stronger")}
KINDS = {
    "speed": SpeedConfig,
    **dict.fromkeys(("language-model", "perplexity", "robustness", "weak-to-strong"), CompareConfig),
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
