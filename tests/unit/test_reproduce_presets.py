"""Every experiment's settings are what its config takes, and the forms of the language-model experiment differ."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from fishersft import reproduce_cli
from fishersft.config.compare import CompareConfig
from fishersft.config.files import load_settings
from fishersft.config.frozen_features import FrozenFeaturesConfig
from fishersft.config.simulation import SimulationConfig
from fishersft.config.speed import SpeedConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.experiments.skills import SKILLS
from fishersft.reporting.comparison import Comparison
from fishersft.reproduce_cli import reproduce_app
from fishersft.steps import comparing
from fishersft.steps.instructions import write_prompts_and_completions
from tests.unit.reporting.test_comparison import against, comparison

PRESETS = resources.files("fishersft.experiments").joinpath("presets")
MISSING = {
    "frozen-features": ("texts", "any"),
    "language-model": ("name", "any"),
    "weak-to-strong": ("finetune.model.path", "stronger"),
}
KINDS = {
    "frozen-features": FrozenFeaturesConfig,
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


def test_rare_skills_are_drawn_anew_and_measured_by_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[CompareConfig]()
    monkeypatch.setattr(reproduce_cli, "_replicated", lambda name, of, *_: drawn.extend(of(n) for n in (0, 1)))
    words = ["rare-skills", "--corpora", str(tmp_path), "--set", "seed=5"]
    assert CliRunner().invoke(reproduce_app, words, catch_exceptions=False).exit_code == 0
    pools = [read_pool(config) for config in drawn]
    for config, pool in zip(drawn, pools, strict=True):
        assert len(pool) == 1000 and len({row["task"] for row in pool}) == 12
        assert config.target is not None and config.evaluation.corpus is not None
        for corpus, rows in ((config.target, 24), (config.evaluation.corpus, 240)):
            assert corpus.example == "prompt-completion" and len(Path(corpus.path).read_text().splitlines()) == rows
        assert config.evaluation.macro_column == config.methods[1].column == "task"
        assert config.evaluation.sentences >= 240
    assert [row for row in pools[0] if row in pools[1]] != pools[0]


def test_prompts_are_chosen_in_pools_of_rare_skills_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = list[CompareConfig]()
    monkeypatch.setattr(reproduce_cli, "_replicated", lambda name, of, *_: drawn.append(of(0)))
    for command in ("rare-skills", "prompts"):
        words = [command, "--corpora", str(tmp_path)]
        assert CliRunner().invoke(reproduce_app, words, catch_exceptions=False).exit_code == 0
    skills, prompts = drawn
    assert read_pool(skills) != read_pool(prompts) and len(read_pool(prompts)) == 1000
    (method,) = prompts.methods
    assert (method.method, method.by, prompts.selection.budget_unit) == ("information", "prompts", "sentences")
    assert prompts.target is None and prompts.evaluation.macro_column == "task"
    alike = ("model", "finetune", "evaluation")
    assert all(
        getattr(prompts, name).model_dump(exclude={"corpus"}) == getattr(skills, name).model_dump(exclude={"corpus"})
        for name in alike
    )


def test_rare_skills_are_told_by_task_by_rank_and_by_each_choices_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(store: Store, report: str) -> Comparison:
        return by_group(comparison(against("gradient matching", -0.1 * int(report), 0.5)), list(SKILLS))

    def run(config: CompareConfig) -> SimpleNamespace:
        return SimpleNamespace(report=config.name.removeprefix("rare-skills-"))

    monkeypatch.setattr(reproduce_cli, "load_plug_in", lambda *_: run)
    monkeypatch.setattr(comparing, "load_comparison", compared)
    words = ["rare-skills", "--corpora", str(tmp_path), "--replicates", "3", "--set", f"output={tmp_path}/out"]
    words += ["--set", f"store={tmp_path}/store", "--set", "methods=[gradient-matching]"]
    assert CliRunner().invoke(reproduce_app, words, catch_exceptions=False).exit_code == 0
    told = (tmp_path / "out" / "rare-skills" / "replicates.md").read_text()
    methods, tasks, ranks, worst = (part.split("\n")[4:] for part in told.split("# ")[1:])
    assert [len([line for line in part if line]) for part in (methods, tasks, ranks, worst)] == [1, 12, 12, 1]
    assert methods[0].split("|")[2].strip().startswith("-0.100 ")
    assert [line.split("|")[2].strip() for line in ranks if line][::11] == ["32%", "3%"]
    assert [line.split("|")[1].strip() for line in tasks if line] == sorted(SKILLS)


def by_group(found: Comparison, groups: list[str]) -> Comparison:
    """The same with groups of sentences, on all of which its methods do as they do in the mean."""
    about = {"budget": 2000, "sentences": 20, "tokens": 99, "base": 4.0, "uniform": 2.0}
    told = [
        {**about, "method": item.method, "group": group, "mean": 2.0 + item.mean.value, "difference": item.mean}
        for item in found.versus
        for group in groups
    ]
    return Comparison.model_validate({**dict(found), "macro_column": "task", "groups": told})


def read_pool(config: CompareConfig) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(str(config.corpus.path)).read_text().splitlines()]


def test_what_is_no_task_is_named(tmp_path: Path) -> None:
    file = tmp_path / "tasks.jsonl"
    file.write_text('{"instruction": "Add.", "instances": []}\n')
    with pytest.raises(InputError, match=r"tasks.jsonl.*1.*is no task"):
        write_prompts_and_completions(file, tmp_path / "out.jsonl")
