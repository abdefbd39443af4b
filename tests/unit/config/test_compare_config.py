"""What a comparison is told: methods by name or spelt out, budgets, repeats, and what makes no sense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from fishersft.config import CurateConfig
from fishersft.config.compare import CompareConfig, MethodConfig
from fishersft.config.files import commented_defaults, load_settings
from fishersft.errors import InputError

ROOT = Path(__file__).parents[3]


def comparison(**changes: Any) -> CompareConfig:
    return CompareConfig.model_validate({"corpus": {"path": "verses.txt"}, **changes})


def test_a_method_is_its_name_or_its_settings() -> None:
    config = comparison(
        methods=["information", {"method": "information", "label": "strong prior", "regularization": 9}]
    )
    assert [method.name for method in config.methods] == ["D-optimal", "strong prior"]
    assert config.choosing(config.methods[0], 50).selection.regularization == 1.0
    strong = config.choosing(config.methods[1], 50).selection
    assert (strong.regularization, strong.budget, strong.criterion) == (9.0, 50, "information")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["longest", "longest"]}, "methods names 'longest' twice"),
        ({"methods": [{"method": "longest", "label": "uniform"}]}, "no method may be called uniform"),
        ({"budgets": [100, 100]}, "budgets names one twice"),
        ({"methods": []}, "at least 1"),
        ({"methods": ["magic"]}, "methods"),
        ({"selection": {"criterion": "fisher-weighted"}}, "criteria and their gradients in `methods`"),
        ({"selection": {"extends": "previous"}}, "have no meaning in a comparison"),
        ({"selection": {"stop_below": 0.1}}, "bind some methods only"),
        ({"selection": {"quota_column": "kind", "quotas": {"a": 3}}}, "bind some methods only"),
        ({"finetune": {"early_stopping": 1}}, "after unequal steps"),
        ({"evaluation": {"harness_tasks": ["arc_easy"]}}, "are for `fishersft curate`"),
        ({"methods": ["v-optimal"], "selection": {"project_to": 8}}, "project_to cannot be used"),
        ({"methods": ["v-optimal"], "selection": {"certificate": "frank-wolfe"}}, "has no certificate"),
        ({"methods": [{"method": "longest", "regularization": 2}]}, "no meaning for longest"),
        (
            {"methods": [{"method": "sentence-design", "regularization_unit": "mean token energy"}]},
            "no meaning for sentence-design",
        ),
        ({"methods": ["gradient-matching"], "selection": {"algorithm": "naive"}}, "and one algorithm"),
        ({"methods": [{"method": "longest", "column": "genre"}]}, "column has no meaning for longest"),
        ({"methods": ["balanced"]}, "balanced needs column"),
        ({"methods": [{"method": "stratified", "keep": "good"}]}, "keep has no meaning for stratified"),
        ({"methods": [{"method": "perfect-filter", "column": "domain"}]}, "perfect-filter needs column and keep"),
        (
            {"methods": [{"method": "target-alone", "with_target": True}], "target": {"path": "aim.txt"}},
            "with_target has no meaning for target-alone",
        ),
        ({"methods": ["dsir"]}, "dsir needs a target"),
        ({"methods": ["target-alone", "dsir"]}, "target alone, dsir need a target"),
        ({"methods": [{"method": "longest", "with_target": True}]}, r"longest \+ target needs a target"),
        (
            {"methods": ["target-alone"], "target": {"path": "aim.jsonl", "text_field": "speech"}},
            "target.text_field and corpus.text_field differ",
        ),
        (
            {
                "methods": [{"method": "information", "with_target": True}],
                "target": {"path": "aim.jsonl", "chat_template": "qwen3"},
            },
            "target.chat_template and corpus.chat_template differ",
        ),
        ({"methods": [{"method": "longest", "gradients": "all layers"}]}, "all layers has no meaning for longest"),
        (
            {"selection": {"gradients": "all layers"}, "target": {"path": "a.txt"}},
            "criteria and their gradients in `methods`",
        ),
        ({"methods": ["longest", "rds+", "less"]}, r"RDS\+, LESS need a target.*name it in `target`"),
        ({"methods": ["cross-entropy-difference"]}, "cross-entropy difference needs a target"),
        ({"at_equal_sentences": False, "selection": {"budget_unit": "sentences"}}, "give budgets in tokens"),
        ({"selection": {"exclude": ["0" * 12]}}, "have no meaning in a comparison"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        comparison(**changes)


def test_a_method_beside_the_target_is_another_than_the_method_alone() -> None:
    config = comparison(
        methods=["dsir", {"method": "dsir", "with_target": True}, "target-alone"],
        target={"path": "aim.jsonl", "held_out_fraction": 0.5},
    )
    assert [method.name for method in config.methods] == ["dsir", "dsir + target", "target alone"]
    assert [method.trains_on_target for method in config.methods] == [False, True, True]


def test_only_a_target_that_is_trained_on_has_to_be_read_like_the_corpus() -> None:
    aim = {"path": "aim.jsonl", "text_field": "speech"}
    assert comparison(methods=["dsir", "v-optimal"], target=aim).target is not None


def test_the_run_form_has_what_is_compared_after_the_corpus_and_no_approval() -> None:
    fields = CompareConfig.model_json_schema()["properties"]
    places = {name: field["position"] for name, field in fields.items()}
    assert "approval" not in fields
    own = [places[name] for name in ("corpus", "target", "methods", "budgets", "repeats", "price_per_hour", "model")]
    assert own == sorted(own)


def test_the_pool_is_embedded_with_scores_only_where_a_method_needs_them() -> None:
    assert comparison(methods=["longest", "v-optimal"]).embedded().selection.criterion == "information"
    assert comparison(methods=["perplexity-low"]).embedded().selection.criterion == "fisher-weighted"
    aimed = comparison(methods=["cross-entropy-difference", "less", "rds+"], target={"path": "aim.txt"})
    assert aimed.embedded().selection.criterion == "fisher-weighted"
    assert [method.name for method in aimed.methods] == ["cross-entropy difference", "LESS", "RDS+"]
    with_gradients = comparison(methods=["perplexity-low", "gradient-matching"], target={"path": "aim.txt"})
    assert with_gradients.embedded().selection.criterion == "gradient-matching"
    assert with_gradients.aiming().selection.criterion == "gradient-matching"
    all_layers = comparison(methods=[{"method": "gradient-matching", "gradients": "all layers"}])
    assert all_layers.embedded().selection.criterion == "information" and all_layers.matches_all_layers


def test_what_embeds_and_chooses_is_a_run_that_a_worker_takes() -> None:
    config = comparison(methods=["information", "v-optimal"], target={"path": "target.txt"})
    for settings in (config.embedded(), config.aiming(), config.choosing(config.methods[1], 9)):
        assert type(settings) is CurateConfig
        assert CurateConfig.model_validate(settings.model_dump(mode="json")) == settings


def test_budgets_are_bare_numbers_as_people_write_them() -> None:
    assert comparison(budgets=["2k", 4000]).budgets == [2000, 4000]
    with pytest.raises(ValidationError, match="leave the unit out here"):
        comparison(budgets=["2k tokens"])


def test_a_target_is_for_the_methods_that_aim_and_disturbs_no_other() -> None:
    config = comparison(methods=["information", "gradient-matching"], target={"path": "aim.txt"})
    aims = [config.choosing(method, 9).target for method in config.methods]
    assert aims[0] is None and aims[1] == config.target and config.embedded().target is None


def test_seeds_change_the_training_and_not_the_corpus() -> None:
    config = comparison(seed=5, repeats=3)
    assert config.seeds == [5, 6, 7]
    assert config.seeded(7).seed == 7 and config.seeded(7).corpus == config.corpus
    assert len({config.seeded(seed, order).seed for seed in range(100) for order in range(3)}) == 300


def test_equal_tokens_take_equal_steps_and_at_least_one() -> None:
    config = comparison(finetune={"batch_tokens": 240})
    assert [config.steps_an_epoch(tokens) for tokens in (1990, 2010, 10)] == [8, 8, 1]


def test_the_benchmark_and_the_printed_defaults_are_comparisons(tmp_path: Path) -> None:
    quality = load_settings(ROOT / "benchmarks" / "quality.yaml", [], CompareConfig)
    assert [method.name for method in quality.methods] == ["D-optimal", "Fisher-weighted", "V-optimal", "longest"]
    printed = tmp_path / "printed.yaml"
    printed.write_text(commented_defaults(CompareConfig))
    values = yaml.safe_load(printed.read_text())
    assert values["repeats"] == 3 and "methods" in values
    assert load_settings(printed, [], CompareConfig).methods == [MethodConfig(method="information")]
    with pytest.raises(InputError, match="no such setting"):
        load_settings(printed, ["methds=[]"], CompareConfig)
