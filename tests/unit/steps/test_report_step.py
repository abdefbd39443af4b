"""The report step on a V-optimal run with a tiny random model: what it says of the selection."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.reporting.page import render_html
from fishersft.reporting.sheets import judges
from fishersft.steps import evaluation
from fishersft.steps.corpus import read_corpus, read_target, target_config
from fishersft.steps.embedding import embed_shard
from fishersft.steps.held_out import look_for_overlap
from fishersft.steps.report_parts import RunKeys
from fishersft.steps.reporting import build_report, method_of
from fishersft.steps.selection import select_informative, select_uniform
from fishersft.steps.training import finetune_on


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    settings = tiny_model_folder / "config.json"
    longer = {**json.loads(settings.read_text()), "max_position_embeddings": 1024}  # the judge's question is long
    settings.write_text(json.dumps(longer))
    rows = [f"verse {i} of the poem {'may ' * (i % 7 + 1)}" for i in range(40)]
    (tmp_path / "verses.txt").write_text("\n".join(rows) + "\n")
    (tmp_path / "target.txt").write_text("rough winds do shake\n" + "\n".join(rows[:20]) + "\n")
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(tmp_path / "verses.txt"), "held_out_fraction": 0.3},
            "model": {"path": str(tiny_model_folder)},
            "target": {"path": str(tmp_path / "target.txt")},
            "selection": {"budget": 6, "budget_unit": "sentences", "criterion": "v-optimal"},
            "finetune": {"epochs": 1, "learning_rate": 0.1},
            "evaluation": {
                "prompts": 2,
                "prompt_tokens": 2,
                "new_tokens": 8,
                "judging": {"judges": [{}, {"model": str(tiny_model_folder)}]},
            },
            "store": str(tmp_path / "store"),
            "output": str(tmp_path / "output"),
        }
    )


def keys_of_a_run(store: Store, config: CurateConfig) -> RunKeys:
    corpus, target = read_corpus(store, config), read_target(store, config)
    embeddings = [embed_shard(store, config, shard).key for shard in corpus.facts["shard_keys"]]
    towards = [embed_shard(store, target_config(config), shard).key for shard in target.facts["shard_keys"]]
    chosen = select_informative(store, config, corpus.key, embeddings, towards)
    at_random = select_uniform(store, config, corpus.key, embeddings, chosen.facts["tokens"])
    trained = finetune_on(store, config, corpus.key, chosen.key)
    trained_at_random = finetune_on(store, config, corpus.key, at_random.key, trained.facts["steps_per_epoch"])
    models = (None, trained.key, trained_at_random.key)
    written = [evaluation.complete_prompts(store, config, corpus.key, model).key for model in models]
    judged = [
        [evaluation.judge_completions(store, config, written[1], written[i], judge=number).key for i in (2, 0)]
        for number in (0, 1)
    ]
    return RunKeys(
        corpus=corpus.key,
        overlap=look_for_overlap(store, config, corpus.key).key,
        model="",
        embeddings=embeddings,
        target=target.key,
        target_embeddings=towards,
        selection=chosen.key,
        uniform_selection=at_random.key,
        trained=trained.key,
        uniform_trained=trained_at_random.key,
        evaluations=[evaluation.measure_likelihood(store, config, corpus.key, model).key for model in models],
        generations=written,
        judgements_uniform=judged[0][0],
        judgements_base=judged[0][1],
        calibrations=[evaluation.calibrate_judge(store, config, corpus.key, judge=number).key for number in (0, 1)],
        further_judgements=judged[1:],
    )


def test_a_v_optimal_run_is_reported_without_a_certificate_and_with_a_warning_of_shared_examples(
    config: CurateConfig,
) -> None:
    store = Store(config.store)
    report = build_report(store, config, keys_of_a_run(store, config))
    assert method_of(config) == "V-optimal"
    assert [facts.method for facts in report.selections] == ["V-optimal", "uniform"]
    chosen = report.selections[0]
    assert chosen.certificate == (
        "The selection by V-optimal: no certificate: the criterion v-optimal is not submodular."
    )
    assert list(chosen.settings) == ["Budget", "Criterion", "Regularization", "Variance on the target"]
    assert any("of the examples that are measured on are in the target too" in warning for warning in report.warnings)
    assert {cost.step for cost in report.costs} >= {"read the target", "embed the target", "calibrate the judges"}
    page = render_html(report)
    assert "The judges" in page
    assert 'id="selection"' in page and "Variance on the target" in page and "of the best possible" not in page


def test_every_judge_is_reported_with_its_calibration_and_its_agreement_with_the_first(config: CurateConfig) -> None:
    store = Store(config.store)
    report = build_report(store, config, keys_of_a_run(store, config))
    own, named = report.judges
    assert own.name == f"{config.model.path} (the base model itself)" and named.name == config.model.path
    assert own.agreement is None
    assert named.agreement is not None and named.agreement.same == 1.0  # it is the same model
    assert own.calibration.prompts > 0 and own.win_rates == report.win_rates
    unfit = [warning for warning in report.warnings if "is unfit: it preferred real text" in warning]
    assert len(unfit) == sum(not judge.fit for judge in report.judges)
    sheet = judges(report)
    assert [row.heading for row in sheet.rows] == [own.name, named.name]
    assert sheet.columns[3:5] == ("V-optimal over uniform [interval]", "V-optimal over base model [interval]")
