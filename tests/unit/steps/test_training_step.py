"""The fine-tuning step: what its key holds, another model than the one that chose, early stopping, going on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.models import token_trainer, training_job
from fishersft.models.tokenising import Tokeniser
from fishersft.reporting.page import render_html
from fishersft.steps import evaluation, training, weights
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.held_out import evaluated_examples, look_for_overlap, stopping_examples
from fishersft.steps.models import SPREAD
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.report_parts import BASE, UNIFORM, RunKeys
from fishersft.steps.reporting import build_report, load_report, make_report
from fishersft.steps.selection import select_informative, select_uniform
from fishersft.steps.training import finetune_on, training_key
from fishersft.steps.weights import until_measured, weights_folder
from tests.conftest import character_tokenizer


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    rows = [f"verse {i} of {'may ' * (i % 7 + 1)}" for i in range(80)]
    (tmp_path / "verses.txt").write_text("\n".join(rows) + "\n")
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(tmp_path / "verses.txt"), "held_out_fraction": 0.4},
            "model": {"path": str(tiny_model_folder)},
            "selection": {"budget": 8, "budget_unit": "sentences"},
            "finetune": {"epochs": 2, "batch_tokens": 20},
            "evaluation": {"sentences": 6, "prompts": 2, "prompt_tokens": 2, "new_tokens": 2},
            "store": str(tmp_path / "store"),
            "output": str(tmp_path / "output"),
        }
    )


@pytest.fixture
def store(config: CurateConfig) -> Store:
    return Store(config.store)


@pytest.fixture
def chosen(store: Store, config: CurateConfig) -> tuple[str, list[str], Outcome]:
    """The corpus, the embeddings and the selection."""
    corpus = read_corpus(store, config)
    embeddings = [embed_shard(store, config, shard).key for shard in corpus.facts["shard_keys"]]
    return corpus.key, embeddings, select_informative(store, config, corpus.key, embeddings)


@pytest.fixture
def another_model(tmp_path: Path) -> Path:
    """A wider random model with a tokenizer of single characters."""
    tokenizer = character_tokenizer()
    torch.manual_seed(1)
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=1024,
    )
    folder = tmp_path / "another"
    LlamaForCausalLM(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_finetune(config: CurateConfig, **settings: Any) -> CurateConfig:
    values = config.model_dump()
    values["finetune"].update(settings)
    return CurateConfig.model_validate(values)


def test_how_a_step_is_computed_makes_no_new_artifact_and_early_stopping_does(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome]
) -> None:
    corpus, _, selection = chosen
    first = finetune_on(store, config, corpus, selection.key)
    same = with_finetune(config, packing=True, passes_a_step=4, gradient_checkpointing=True)
    assert finetune_on(store, same, corpus, selection.key).key == first.key
    stopping = finetune_on(store, with_finetune(config, early_stopping=1), corpus, selection.key)
    assert stopping.key != first.key
    params = store.get("training", first.key).params
    assert not params.keys() & {"packing", "passes_a_step", "gradient_checkpointing", "early_stopping", "model"}


def test_what_early_stopping_looks_at_measures_no_outcome(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome]
) -> None:
    corpus, _, selection = chosen
    held_out = evaluated_examples(store, config, corpus).examples
    assert stopping_examples(store, config, corpus) == []
    stopping = with_finetune(config, early_stopping=1)
    seen, measured = stopping_examples(store, stopping, corpus), evaluated_examples(store, stopping, corpus).examples
    assert len(seen) == config.evaluation.sentences and measured + seen == held_out
    most = stopping.model_copy(update={"evaluation": config.evaluation.model_copy(update={"sentences": 1000})})
    assert len(stopping_examples(store, most, corpus)) == -(-len(held_out) // 10)
    facts = finetune_on(store, stopping, corpus, selection.key).facts
    assert [step for step, _ in facts["held_out_losses"]] == [facts["steps_per_epoch"] * n for n in (1, 2)]


def test_another_model_trains_on_the_same_sentences_in_its_own_tokens(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome], another_model: Path
) -> None:
    corpus, _, selection = chosen
    other = with_finetune(config, model={"path": str(another_model)})
    trained = finetune_on(store, other, corpus, selection.key)
    examples = picked_examples(store, config.corpus, load_picks(store, selection.key))
    tokens = [Tokeniser(character_tokenizer(), 1024)(example).loss_tokens for example in examples]
    assert trained.facts["tokens_per_epoch"] == sum(tokens) != selection.facts["tokens"]
    model = AutoModelForCausalLM.from_pretrained(store.fetch("fine-tuned-model", trained.key))
    assert model.config.hidden_size == 48
    assert trained.key != finetune_on(store, config, corpus, selection.key).key


def keys_of_a_run(store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome]) -> RunKeys:
    corpus, embeddings, selection = chosen
    at_random = select_uniform(store, config, corpus, embeddings, selection.facts["tokens"])
    trained = finetune_on(store, config, corpus, selection.key)
    trained_at_random = finetune_on(store, config, corpus, at_random.key, trained.facts["steps_per_epoch"])
    models = (None, trained.key, trained_at_random.key)
    written = [evaluation.complete_prompts(store, config, corpus, model).key for model in models]
    return RunKeys(
        corpus=corpus,
        model="",
        embeddings=embeddings,
        target=None,
        target_embeddings=[],
        selection=selection.key,
        overlap=look_for_overlap(store, config, corpus).key,
        uniform_selection=at_random.key,
        trained=trained.key,
        uniform_trained=trained_at_random.key,
        evaluations=[evaluation.measure_likelihood(store, config, corpus, model).key for model in models],
        generations=written,
        judgements_uniform=evaluation.judge_completions(store, config, written[1], written[2]).key,
        judgements_base=evaluation.judge_completions(store, config, written[1], written[0]).key,
    )


def test_the_report_labels_a_comparison_of_another_model_that_stops_early(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome], another_model: Path
) -> None:
    other = with_finetune(config, model={"path": str(another_model)}, early_stopping=1)
    keys = keys_of_a_run(store, other, chosen)
    report = build_report(store, other, keys)
    assert " at equal tokens an epoch as the choosing model counts them and equal steps" in report.headline
    assert report.judge.startswith(str(another_model))
    base = store.get("evaluation", keys.evaluations[0])
    assert report.likelihoods[0].method == BASE and base.facts["sentences"] == config.evaluation.sentences
    assert base.inputs["model"] == store.get("fine-tuned-model", keys.trained).inputs["model"]
    assert all(facts.held_out_losses for facts in report.trainings)
    assert [facts.tokens_chosen for facts in report.trainings] == [sum(facts.lengths) for facts in report.selections]
    page = render_html(load_report(store, make_report(store, other, keys).key))
    assert f"{UNIFORM}: from " in page and ", held out at best " in page


def test_a_training_that_was_cut_short_goes_on_and_leaves_no_scratch(
    store: Store,
    config: CurateConfig,
    chosen: tuple[str, list[str], Outcome],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, _, selection = chosen
    monkeypatch.setattr(token_trainer, "CHECKPOINT_SECONDS", 0.0)
    taken: list[int] = []

    def until(last: int) -> Callable[..., None]:
        def on_progress(done: int, total: int, note: str = "") -> None:
            taken.append(done)
            if done == last:
                raise KeyboardInterrupt

        return on_progress

    with pytest.raises(KeyboardInterrupt):
        finetune_on(store, config, corpus, selection.key, None, until(4))
    assert list(Path(config.store).glob(".checkpoints/fine-tuned-model-*/checkpoint-3"))
    trained = finetune_on(store, config, corpus, selection.key, None, until(-1))
    steps = trained.facts["steps"]
    assert steps > 4 and taken == [1, 2, 3, 4, *range(4, steps + 1), steps]
    assert not list(Path(config.store).glob(".checkpoints/*"))


def measure(store: Store, config: CurateConfig, corpus: str, training: str) -> list[str]:
    """The keys of all that a comparison measures of a training."""
    measured = (evaluation.measure_likelihood, evaluation.complete_prompts)
    return [step(store, config, corpus, training).key for step in measured]


def train_and_measure(store: Store, config: CurateConfig, corpus: str, selection: str) -> tuple[Outcome, list[str]]:
    """As a comparison does: the weights are there until they are measured."""
    with until_measured(store, training_key(store, config, corpus, selection)):
        is_measured = partial(evaluation.is_measured, store, config, corpus)
        trained = finetune_on(store, config, corpus, selection, is_measured=is_measured)
        return trained, measure(store, config, corpus, trained.key)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A line for each training that is computed from here on."""
    computed: list[str] = []
    train = training_job.TrainingJob.run

    def run(job: training_job.TrainingJob, *args: Any) -> Any:
        computed.append("trained")
        return train(job, *args)

    monkeypatch.setattr(training_job.TrainingJob, "run", run)
    return computed


def weights_beside(store: Store) -> list[str]:
    """Everything that lies in the store's scratch."""
    folder = store.scratch("")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_training_that_is_measured_leaves_its_record_and_no_weights_and_is_not_done_again(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome], trainings: list[str]
) -> None:
    corpus, _, selection = chosen
    first, measured = train_and_measure(store, config, corpus, selection.key)
    assert not first.hit and trainings == ["trained"] and first.facts["steps"] > 0
    assert store.find("fine-tuned-model", first.key) is None and weights_beside(store) == []
    assert f"training/{first.key}" in store.get("evaluation", measured[0]).sources
    with pytest.raises(InputError, match="were removed after they were measured; run again"):
        weights_folder(store, first.key)

    again, same = train_and_measure(store, config, corpus, selection.key)
    assert again.hit and same == measured and again.facts == first.facts and trainings == ["trained"]
    more = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"sentences": 9})})
    third, others = train_and_measure(store, more, corpus, selection.key)
    assert third.key == first.key and not third.hit and trainings == ["trained"] * 2
    assert others[0] != measured[0] and others[1] == measured[1]
    assert weights_beside(store) == []


def test_what_is_measured_is_that_of_weights_that_are_kept(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome], tmp_path: Path
) -> None:
    corpus, _, selection = chosen
    dropped, measured = train_and_measure(store, config, corpus, selection.key)
    other = Store(str(tmp_path / "other"))
    read = read_corpus(other, config)
    embeddings = [embed_shard(other, config, shard).key for shard in read.facts["shard_keys"]]
    select_informative(other, config, corpus, embeddings)
    kept = finetune_on(other, config, corpus, selection.key)
    assert kept.key == dropped.key and measure(other, config, corpus, kept.key) == measured
    assert kept.facts == dropped.facts and other.get("training", kept.key).facts == kept.facts
    for kind, key in zip(("evaluation", "generations"), measured, strict=True):
        assert store.get(kind, key).content == other.get(kind, key).content
    _, again = train_and_measure(other, config, corpus, selection.key)
    assert again == measured and other.find("fine-tuned-model", kept.key) is not None, "what is kept is not dropped"


@pytest.mark.parametrize("killed", ["before the record", "before the weights go", "while the weights are written"])
def test_a_run_killed_with_weights_beside_the_store_goes_on_where_it_was(
    store: Store,
    config: CurateConfig,
    chosen: tuple[str, list[str], Outcome],
    trainings: list[str],
    killed: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus, _, selection = chosen
    place = {
        "before the record": (training, "_record"),
        "before the weights go": (weights, "drop_weights"),
        "while the weights are written": (weights, "write_aside"),
    }[killed]
    drop = weights.drop_weights

    def kill(*args: Any) -> None:
        if killed == "before the weights go" and not list(Path(store.scratch("")).glob("weights-*/training.json")):
            return drop(*args)  # before the training, to begin with an empty folder
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*place, kill)
        with pytest.raises(KeyboardInterrupt):
            train_and_measure(store, config, corpus, selection.key)
    assert weights_beside(store) == [f"weights-{training_key(store, config, corpus, selection.key)}"]
    train_and_measure(store, config, corpus, selection.key)
    assert trainings == ["trained"] * (2 if killed == "while the weights are written" else 1)
    assert weights_beside(store) == []


def test_two_runs_that_share_a_training_do_not_take_its_weights_from_each_other(
    store: Store, config: CurateConfig, chosen: tuple[str, list[str], Outcome]
) -> None:
    corpus, _, selection = chosen
    key = training_key(store, config, corpus, selection.key)
    more = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"sentences": 9})})
    with ThreadPoolExecutor(1) as thread:
        with until_measured(store, key):
            finetune_on(store, config, corpus, selection.key, is_measured=lambda _: False)
            other = thread.submit(train_and_measure, Store(config.store), more, corpus, selection.key)
            with pytest.raises(TimeoutError):
                other.result(timeout=0.5)
            measured = measure(store, config, corpus, key)
        assert other.result(timeout=60)[1][0] != measured[0]
    assert weights_beside(store) == []


@pytest.mark.parametrize(
    ("wanted", "gpus", "trains_on"),
    [
        (None, 0, "here: cpu"),
        (None, 1, "here: cuda:0"),
        (None, 3, "processes: cuda:0 cuda:1 cuda:2"),
        ("cuda", 3, "here: cuda"),
        ("cuda:1", 3, "processes: cuda:1"),  # a process of its own, as the Trainer takes the first GPU that it sees
        (SPREAD, 3, "here: None"),
    ],
)
def test_all_gpus_train_unless_one_is_named(
    wanted: str | None, gpus: int, trains_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(training_job.TrainingJob, "run", lambda self, device, _: f"here: {device}")
    monkeypatch.setattr(training_job, "run_in_processes", lambda _, devices, __: "processes: " + " ".join(devices))
    job = training_job.TrainingJob.__new__(training_job.TrainingJob)
    assert training.run_on_devices(job, wanted, None) == trains_on
