"""Configuration from YAML, overrides and the commented defaults."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fishersft.config import CurateConfig, JudgeConfig
from fishersft.config.compare import CompareConfig
from fishersft.config.files import commented_defaults, load_config, load_settings
from fishersft.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text("name: verses\ncorpus:\n  path: verses.txt\nselection:\n  budget: 7\n")
    return path


def test_overrides_win_over_the_file_and_the_file_over_the_defaults(file: Path) -> None:
    config = load_config(file, ["selection.budget_unit=sentences", "corpus.path=[a.txt, b.txt]", "seed=3"])
    assert (config.name, config.seed) == ("verses", 3)
    assert (config.selection.budget, config.selection.budget_unit) == (7, "sentences")
    assert config.corpus.path == ["a.txt", "b.txt"]
    assert config.finetune.epochs == CurateConfig.model_validate({"corpus": {"path": "x"}}).finetune.epochs


def test_an_override_may_start_a_section_that_the_file_lacks(file: Path) -> None:
    assert load_config(file, ["finetune.method=lora"]).finetune.method == "lora"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("selection.budget=0", r"selection\.budget: Input should be greater than or equal to 1 \(found 0\)"),
        ("selection.budgte=5", r"selection\.budgte: no such setting; `fishersft config` lists them"),
        ("selection.algorithm=magic", r"selection\.algorithm: .*'lazy', 'paper' or 'naive'"),
        ("name=Bad Name", "name: String should match pattern"),
        ("selection.budget", "expected SECTION.SETTING=VALUE"),
        ("name.first=x", "name is not a section"),
        ("seed=[", "the value is not YAML"),
    ],
)
def test_a_wrong_setting_is_named(file: Path, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_config(file, [override])


@pytest.mark.parametrize(
    "override",
    [
        "store=s3://me:secret@bucket/prefix",
        "output=s3://me:sec/ret@bucket/prefix",
        "corpus.path=[a.txt, 'https://host/a.txt?token=secret']",
        "evaluation.judging.judges=[{model: 'https://me:secret@host/model'}]",
        "evaluation.judging.judges=[{model: m, base_url: 'https://me:secret@host/v1'}]",
        "evaluation.judging.judges=[{model: m, base_url: 'https://host/v1?key=secret'}]",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(file: Path, override: str) -> None:
    with pytest.raises(InputError, match="credentials or a signature in the URL") as caught:
        load_config(file, [override])
    assert "secret" not in str(caught.value) and "sec/ret" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["criterion=v-optimal"], "criterion v-optimal needs a target"),
        (["criterion=v-optimal", "algorithm=paper"], "paper needs submodularity"),
        (["criterion=v-optimal", "certificate=frank-wolfe"], "has no certificate"),
        (["criterion=v-optimal", "project_to=3"], "project_to cannot be used"),
        (["target={path: t.txt}"], "selection: target is a setting of its own now, beside `corpus`; move it out"),
        (["budget=20 kg"], "selection: budget '20 kg': expected a number such as 20000, 20k, 20k tokens or 500 examp"),
        (["budget=0.5 tokens"], "expected a number such as 20000"),
        (["project_to=3", f"extends={'a' * 64}"], "project_to cannot be used"),
        (["quota_column=kind"], "quota_column and quotas go together"),
        (["quotas={a: 3}"], "quota_column and quotas go together"),
        (["quota_column=kind", "quotas={a: -1}"], r"quotas\.a: Input should be greater than or equal to 0"),
        (["stop_below=.nan"], "stop_below: Input should be a finite number"),
        (["extends=abc"], "extends: String should match pattern"),
    ],
)
def test_settings_of_the_selection_that_do_not_agree_are_refused_with_one_message(
    file: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config(file, [f"selection.{override}" for override in overrides])
    assert "1 settings are wrong" in str(caught.value)


def test_a_target_that_the_criterion_has_no_use_for_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="a target is for the criteria v-optimal and gradient-matching, not informat"):
        load_config(file, ["target.path=t.txt", "selection.criterion=information"])


@pytest.mark.parametrize(
    ("budget", "means"),
    [
        ("20000", (20000, "tokens")),
        ("20k", (20000, "tokens")),
        ("1.5k tokens", (1500, "tokens")),
        ("2M", (2_000_000, "tokens")),
        ("500 examples", (500, "sentences")),
        ("1 sentence", (1, "sentences")),
    ],
)
def test_a_budget_may_be_written_as_people_do(file: Path, budget: str, means: tuple[int, str]) -> None:
    selection = load_config(file, [f"selection.budget={budget}"]).selection
    assert (selection.budget, selection.budget_unit) == means
    shown = CurateConfig.model_json_schema()["$defs"]["SelectionConfig"]["properties"]["budget"]
    assert [(kind["type"], kind["title"]) for kind in shown["anyOf"]] == [("integer", "number"), ("string", "text")]
    assert shown["default"] == 20_000 and shown["title"] == "Budget"


def test_a_unit_in_the_budget_counts_before_the_one_beside_it(file: Path) -> None:
    selection = load_config(file, ["selection.budget_unit=tokens", "selection.budget=5 examples"]).selection
    assert (selection.budget, selection.budget_unit) == (5, "sentences")


@pytest.mark.parametrize(
    ("overrides", "criterion", "why"),
    [
        ([], "information", "auto: there is no target to choose towards"),
        (["target.path=t.txt"], "gradient-matching", "auto: there is a target"),
        (
            ["target.path=t.txt", "selection.stop_below=1"],
            "information",
            "auto: gradient-matching has no stop_below",
        ),
        (
            ["target.path=t.txt", "selection.certificate=frank-wolfe"],
            "information",
            "has no certificate, so",
        ),
        (
            ["target.path=t.txt", "selection.project_to=8"],
            "information",
            "so the target is not used",
        ),
        (["selection.criterion=fisher-weighted"], "fisher-weighted", "as set"),
    ],
)
def test_auto_chooses_a_criterion_and_says_why(file: Path, overrides: list[str], criterion: str, why: str) -> None:
    config = load_config(file, overrides)
    said = config.criterion_in_words()
    assert said.startswith(f"Criterion: {criterion} (") and why in said and "\n" not in said
    resolved = config.resolved()
    assert resolved.selection.criterion == criterion and resolved.resolved() == resolved
    assert resolved.target == (config.target if criterion == "gradient-matching" else None)
    assert CurateConfig.model_validate(resolved.model_dump()) == resolved


def test_top_p_without_a_temperature_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match=r"evaluation: .*top_p 0\.9 is for drawing tokens, but temperature 0 takes"):
        load_config(file, ["evaluation.top_p=0.9"])
    assert load_config(file, ["evaluation.top_p=0.9", "evaluation.temperature=1"]).evaluation.top_p == 0.9


def test_a_target_is_read_like_a_corpus_and_credentials_in_it_are_refused(file: Path) -> None:
    config = load_config(file, ["selection.criterion=v-optimal", "target={path: t.txt, max_rows: 50}"])
    assert config.target is not None and config.target.max_rows == 50
    assert CurateConfig.model_validate(config.model_dump()) == config
    with pytest.raises(InputError, match="credentials or a signature in the URL"):
        load_config(file, ["target={path: 's3://me:secret@bucket/t.txt'}"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("judges=[]", "judges: List should have at least 1 item"),
        ("judges=[{base_url: 'https://host/v1'}]", "a judge with a base_url needs a model"),
        ("judges=[{model: m, base_url: host/v1}]", "base_url: .*expected a URL such as https"),
        ("judges=[{model: m, base_url: 'http://host:port/v1'}]", "base_url: .*Port could not be cast"),
        ("judges=[{model: m, input_price: 2.5}]", "input_price and output_price go together"),
        ("judges=[{model: m, api_key_env: sk-4f1b.secret}]", "expected the name of an environment variable"),
        ("rubric=Which is better?", "a rubric says when to respond 1 and when 2"),
        ("calibration_pairs=3", "greater than or equal to 4"),
    ],
)
def test_a_wrong_setting_of_judging_is_named_and_no_key_repeated(file: Path, setting: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_config(file, [f"evaluation.judging.{setting}"])
    assert "secret" not in str(caught.value)


def test_judges_are_a_list_of_sections_of_their_own(file: Path) -> None:
    config = load_config(file, ["evaluation.judging.judges=[{}, {model: m, base_url: 'https://host/v1'}]"])
    own, other = config.evaluation.judging.judges
    assert (own.model, own.base_url, other.model, other.api_key_env) == (None, None, "m", None)
    assert CurateConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    ("judge", "variable"),
    [
        ({"base_url": "https://api.openai.com/v1"}, "OPENAI_API_KEY"),
        ({"base_url": "https://api.openai.com.example.org/v1"}, None),
        ({"base_url": "http://box:8000/v1"}, None),
        ({"base_url": "http://box:8000/v1", "api_key_env": "BOX_KEY"}, "BOX_KEY"),
    ],
)
def test_openais_key_goes_to_openai_alone_unless_asked_for(judge: dict[str, str], variable: str | None) -> None:
    assert JudgeConfig.model_validate({"model": "m", **judge}).key_variable == variable


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; `fishersft config > none\.yaml` writes one"):
        load_config(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [", "\x00"])
def test_a_file_that_holds_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=r"bad\.yaml: (expected settings|not a readable YAML)"):
        load_config(tmp_path / "bad.yaml")


def test_a_config_without_a_corpus_says_what_is_required(tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("corpus: {}\n")
    with pytest.raises(InputError, match=r"corpus\.path: is required"):
        load_config(tmp_path / "bare.yaml")


def test_the_printed_defaults_are_the_defaults_with_every_setting_described() -> None:
    text = commented_defaults()
    assert CurateConfig.model_validate(yaml.safe_load(text)) == CurateConfig.model_validate(
        {"corpus": {"path": "CORPUS.jsonl"}}
    )
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if not line.lstrip().startswith("#"):
            assert lines[number - 1].lstrip().startswith("#"), f"{line!r} has no comment above it"


def test_every_field_has_a_title_a_description_and_a_place_in_the_run_form() -> None:
    schema = CurateConfig.model_json_schema()
    for section in [schema, *schema["$defs"].values()]:
        positions = [field["position"] for field in section["properties"].values()]
        assert positions == sorted(set(positions))
        assert all(field.get("title") and field.get("description") for field in section["properties"].values())


def test_the_run_form_names_the_kinds_of_value_that_a_field_can_have() -> None:
    schema = CurateConfig.model_json_schema()
    corpus, embedding = (schema["$defs"][name]["properties"] for name in ("CorpusConfig", "EmbeddingConfig"))
    assert [kind["title"] for kind in corpus["path"]["anyOf"]] == ["text", "several"]
    assert [kind["title"] for kind in corpus["max_rows"]["anyOf"]] == ["number", "empty"]
    assert [kind["title"] for kind in embedding["storage"]["anyOf"]] == ["choice", "empty"]
    assert schema["$defs"]["CorpusConfig"]["title"] == "corpus"


def test_the_example_configs_are_valid() -> None:
    examples = list((Path(__file__).parents[3] / "examples").glob("*.yaml"))
    assert examples
    for example in examples:
        compares = "methods:" in example.read_text()
        load_settings(example, (), CompareConfig if compares else CurateConfig)


@pytest.mark.parametrize("store", ["store", "./store", "~/store"])
def test_workers_need_a_store_that_is_the_same_place_for_all_of_them(file: Path, store: str) -> None:
    with pytest.raises(InputError, match=r"workers would each look for the store .* name a URL .* or the full path"):
        load_config(file, ["embedding.deployment=embed-shards/gpu", f"store={store}"])
    for shared in ("s3://bucket/prefix", "/shared/store"):
        load_config(file, ["embedding.deployment=embed-shards/gpu", f"store={shared}"])


def test_the_workers_deployment_is_one_of_the_flow_that_embeds(file: Path) -> None:
    with pytest.raises(InputError, match=r"embedding\.deployment: String should match pattern '\^embed-shards/"):
        load_config(file, ["embedding.deployment=curate/manual", "store=/shared/store"])


def test_gradients_of_all_layers_are_matched_where_the_criterion_matches_gradients(file: Path) -> None:
    all_layers = "selection.gradients=all layers"
    assert load_config(file, [all_layers, "target.path=aim.txt"]).matches_all_layers
    assert load_config(file, [all_layers, "selection.criterion=gradient-matching"]).matches_all_layers
    with pytest.raises(InputError, match="all layers is for criterion gradient-matching, not information"):
        load_config(file, [all_layers])
