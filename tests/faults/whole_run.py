"""A whole curation run in the flow's order, small and without Prefect, in processes that a test may kill."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

from fishersft.config import CurateConfig
from fishersft.data.files import Files
from fishersft.data.store import Store
from fishersft.steps.checking import check_corpora
from fishersft.steps.corpus import read_corpus
from fishersft.steps.embedding import embed_shard
from fishersft.steps.evaluation import (
    calibrate_judge,
    complete_prompts,
    is_measured,
    judge_completions,
    measure_likelihood,
)
from fishersft.steps.held_out import look_for_overlap
from fishersft.steps.models import prepare_model
from fishersft.steps.outcome import Outcome, open_store
from fishersft.steps.publishing import publish_dataset, publish_model_and_report
from fishersft.steps.report_parts import RunKeys
from fishersft.steps.reporting import make_report
from fishersft.steps.selection import select_informative, select_uniform
from fishersft.steps.this_run import describe_run
from fishersft.steps.training import finetune_on, training_key
from fishersft.steps.weights import until_measured

# A process of its own a run, without importing torch and the others each time.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    [
        "tests.faults.whole_run",
        "fishersft.models.finetuning",
        "fishersft.models.evaluating",
        "fishersft.reporting.write",
        "s3fs",
        "transformers.models.llama.modeling_llama",
    ]
)


def small_config(folder: Path, model: Path, store: str) -> CurateConfig:
    """Sixty verses in some fifteen shards, the tiny model, few tokens."""
    corpus = folder / "verses.txt"
    corpus.write_text("".join(f"{n} verses of my {'heart ' * (n % 7)}and {n * n} more\n" for n in range(60)))
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(corpus), "held_out_fraction": 0.25},
            "model": {"path": str(model), "max_tokens": 32},
            "embedding": {"shard_rows": 4},
            "selection": {"budget": 6, "budget_unit": "sentences"},
            "finetune": {"epochs": 1, "batch_tokens": 64},
            "evaluation": {"prompts": 3, "prompt_tokens": 4, "new_tokens": 4, "judging": {"task": "verses"}},
            "store": store,
            "output": str(folder / "output"),
        }
    )


def run_all(config: CurateConfig) -> list[Outcome]:
    """What the flow `curate` does, step by step; the outcomes in order."""
    store = open_store(config.store)
    corpus = read_corpus(store, config)
    check_corpora(store, config, corpus)
    overlap = look_for_overlap(store, config, corpus.key)
    embedded = [embed_shard(store, config, shard) for shard in corpus.facts["shard_keys"]]
    embeddings = [outcome.key for outcome in embedded]
    chosen = select_informative(store, config, corpus.key, embeddings)
    publish_dataset(store, config, corpus.key, chosen.key)
    at_random = select_uniform(store, config, corpus.key, embeddings, chosen.facts["tokens"])
    measured, written = list[Outcome](), list[Outcome]()

    def measure(training: str | None) -> None:
        measured.append(measure_likelihood(store, config, corpus.key, training))
        written.append(complete_prompts(store, config, corpus.key, training))

    measure(None)
    trained = finetune_on(store, config, corpus.key, chosen.key)
    measure(trained.key)
    as_uniform = store, config, corpus.key, at_random.key, trained.facts["steps_per_epoch"]
    with until_measured(store, training_key(*as_uniform)):
        trained_at_random = finetune_on(
            *as_uniform, is_measured=lambda key: is_measured(store, config, corpus.key, key)
        )
        measure(trained_at_random.key)
    by_base, by_informative, by_uniform = (outcome.key for outcome in written)
    calibrated = calibrate_judge(store, config, corpus.key)
    against_uniform = judge_completions(store, config, by_informative, by_uniform)
    against_base = judge_completions(store, config, by_informative, by_base)
    keys = RunKeys(
        corpus=corpus.key,
        overlap=overlap.key,
        model=prepare_model(store, config.model).fingerprint,
        embeddings=embeddings,
        target=None,
        target_embeddings=[],
        selection=chosen.key,
        uniform_selection=at_random.key,
        trained=trained.key,
        uniform_trained=trained_at_random.key,
        evaluations=[outcome.key for outcome in measured],
        generations=[outcome.key for outcome in written],
        judgements_uniform=against_uniform.key,
        judgements_base=against_base.key,
        calibrations=[calibrated.key],
    )
    report = make_report(store, config, keys)
    outcomes = [corpus, overlap, *embedded, chosen, at_random, trained, trained_at_random, *measured, *written]
    outcomes += [calibrated, against_uniform, against_base, report]
    this_run = describe_run(store, outcomes, corpus.key, embedded, None)
    publish_model_and_report(store, config, trained.key, report.key, this_run)
    return outcomes


def warm_up() -> None:
    """Has everything imported, so that a run's time is its own."""
    process = _processes.Process()
    process.start()
    process.join()


def start_run(config: CurateConfig, environment: dict[str, str], said: Path) -> BaseProcess:
    """Starts the run in a process; at its end `said` lists the artifacts that it made itself."""
    process = _processes.Process(target=_run, args=(config.model_dump(mode="json"), environment, said))
    process.start()
    return process


def contents(url: str) -> dict[str, str]:
    """Each artifact's content digest; of the report neither that nor its key: seconds and the store's URL are in it."""
    store, found = Store(url), dict[str, str]()
    for file in store.files.list():
        kind, key, *rest = file.name.split("/")
        if rest == ["manifest.json"]:
            content = store.get(kind, key).content
            found.update({"report": ""} if kind == "report" else {f"{kind}/{key}": content})
    return found


def publications(url: str) -> dict[str, object]:
    """When each artifact's manifest was written."""
    return {file.name: file.modified for file in Files(url).list() if file.name.endswith("/manifest.json")}


def _run(config: dict[str, object], environment: dict[str, str], said: Path) -> None:
    import os

    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    made = [f"{step.kind}/{step.key}" for step in run_all(CurateConfig.model_validate(config)) if not step.hit]
    said.write_text(json.dumps(made))
