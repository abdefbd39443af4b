"""The fine-tuning step: what its key holds, another model than the one that chose, early stopping, going on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from fishersft.config import CurateConfig
from fishersft.data.store import Store
from fishersft.models import token_trainer, training_job
from fishersft.models.tokenising import Tokeniser
from fishersft.reporting.page import render_html
from fishersft.steps import evaluation, training
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.held_out import evaluated_examples, look_for_overlap, stopping_examples
from fishersft.steps.models import SPREAD
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_examples
from fishersft.steps.report_parts import BASE, UNIFORM, RunKeys
from fishersft.steps.reporting import build_report, load_report, make_report
from fishersft.steps.selection import select_informative, select_uniform
from fishersft.steps.training import finetune_on
from tests.conftest import character_tokenizer


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    rows = [f"verse {i} of {'may ' * (i % 7 + 1)}" for i in range(80)]
    (tmp_path / "verses.txt").write_text("\n".join(rows) + "\n")
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(tmp_path / "verses.txt"), "held_out_fraction": 0.4},
            "model": {"path": str(tiny_model_folder)},
            "selection": {"budget": 8},
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
    params = store.get("fine-tuned-model", first.key).params
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
