"""A curation run's steps by gradient matching: what is chosen, what is told of it, and what is never chosen."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fishersft import baselines
from fishersft.config import CurateConfig
from fishersft.data.block_files import GRADIENTS_FILE, read_gradients
from fishersft.data.store import Store
from fishersft.errors import InputError
from fishersft.steps.choosing import proof_sentence, settings_in_words
from fishersft.steps.corpus import read_corpus, shard_rows
from fishersft.steps.embedding import embed_shard
from fishersft.steps.outcome import Outcome
from fishersft.steps.picks import load_picks, picked_examples, picked_rows
from fishersft.steps.publishing import publish_dataset
from fishersft.steps.selection import select_informative


@pytest.fixture
def config(tmp_path: Path, tiny_model_folder: Path) -> CurateConfig:
    verses = tmp_path / "verses.txt"
    verses.write_text("".join(f"verse {n} of {'may ' * (n % 5 + 1)}and {n * n}\n" for n in range(40)))
    return CurateConfig.model_validate(
        {
            "corpus": {"path": str(verses)},
            "model": {"path": str(tiny_model_folder)},
            "embedding": {"shard_rows": 8},
            "selection": {"budget": 60, "budget_unit": "tokens", "criterion": "gradient-matching"},
            "store": str(tmp_path / "store"),
            "output": str(tmp_path / "output"),
        }
    )


def chosen(config: CurateConfig, told: list[tuple[int, int, str]] | None = None) -> tuple[Outcome, Outcome, list[str]]:
    """The corpus, the selection, and the keys of the embeddings."""
    store = Store(config.store)
    corpus = read_corpus(store, config)
    keys = [embed_shard(store, config, shard).key for shard in corpus.facts["shard_keys"]]

    def tell(done: int, total: int, note: str = "") -> None:
        if told is not None:
            told.append((done, total, note))

    return corpus, select_informative(store, config, corpus.key, keys, on_progress=tell), keys


def test_the_choice_is_the_herding_of_the_shards_sketches_and_its_progress_its_facts_and_its_card_say_so(
    config: CurateConfig,
) -> None:
    told = list[tuple[int, int, str]]()
    corpus, selection, keys = chosen(config, told)
    store = Store(config.store)
    gradients = np.concatenate([read_gradients(store.fetch("embeddings", key) / GRADIENTS_FILE) for key in keys])
    lengths = np.concatenate([store.get("embeddings", key).facts["lengths"] for key in keys])
    places = baselines.herding(gradients, lengths, 60, budget_unit="tokens")
    assert load_picks(store, selection.key).tokens == lengths[places].tolist()
    mean = gradients.astype(float).sum(axis=0) / lengths.sum()
    assert selection.facts["mismatch"] == pytest.approx(baselines.mismatch(gradients, lengths, places, mean), rel=1e-6)
    assert told[-1][:2] == (60, 60) and told[-1][2].endswith("picks")
    assert proof_sentence(selection.facts) == "no certificate: the criterion gradient-matching is not submodular"
    words = settings_in_words(config.selection, selection.facts)
    assert "times as far as a uniform choice" in words["Strays from its aim's gradient"] and "Chosen by" not in words
    publish_dataset(store, config, corpus.key, selection.key)
    card = Path(config.output, "dataset", "README.md").read_text(encoding="utf-8")
    assert "what pulls the last layer of a language model where all of the aim would" in card


def test_what_is_excluded_is_not_chosen_and_something_must_be_left(config: CurateConfig) -> None:
    store = Store(config.store)
    _, first, _ = chosen(config)
    ids = [example.id for example in picked_examples(store, config.corpus, load_picks(store, first.key))]
    without = config.model_copy(update={"selection": config.selection.model_copy(update={"exclude": ids[:3]})})
    _, second, _ = chosen(without)
    again = [example.id for example in picked_examples(store, config.corpus, load_picks(store, second.key))]
    assert not set(again) & set(ids[:3])


def test_an_extension_goes_on_as_if_all_were_chosen_at_once(config: CurateConfig) -> None:
    store = Store(config.store)

    def texts(**selection: object) -> tuple[str, list[str], float]:
        settings = config.selection.model_copy(update={"budget_unit": "sentences", **selection})
        _, outcome, _ = chosen(config.model_copy(update={"selection": settings}))
        picks = picked_examples(store, config.corpus, load_picks(store, outcome.key))
        return outcome.key, [example.id for example in picks], outcome.facts["mismatch"]

    _, whole, strays = texts(budget=12)
    first, beginning, _ = texts(budget=5)
    _, rest, strays_together = texts(budget=7, extends=first)
    assert [*beginning, *rest] == whole and strays_together == pytest.approx(strays)


@pytest.mark.parametrize("left", [2, 0])
def test_picks_that_were_removed_from_the_corpus_no_longer_count_in_an_extension(
    config: CurateConfig, left: int
) -> None:
    store = Store(config.store)
    _, first, _ = chosen(config)
    gone = {str(row["text"]) for row in picked_rows(store, load_picks(store, first.key))[left:]}
    corpus_file = Path(str(config.corpus.path))
    corpus_file.write_text("".join(f"{line}\n" for line in corpus_file.read_text().splitlines() if line not in gone))
    extending = config.model_copy(update={"selection": config.selection.model_copy(update={"extends": first.key})})
    corpus, second, keys = chosen(extending)

    gradients = np.concatenate([read_gradients(store.fetch("embeddings", key) / GRADIENTS_FILE) for key in keys])
    lengths = np.concatenate([store.get("embeddings", key).facts["lengths"] for key in keys])
    pool = [row["text"] for key in corpus.facts["shard_keys"] for row in shard_rows(store, key)]
    kept = [pool.index(row["text"]) for row in picked_rows(store, load_picks(store, first.key))[:left]]
    others = lengths.copy()
    others[kept] = 0
    mean = gradients.astype(float).sum(axis=0) / lengths.sum()
    before = gradients[kept].astype(float).sum(axis=0), int(lengths[kept].sum())
    places = baselines.herding(gradients, others, 60, mean=mean, already_chosen=before, budget_unit="tokens")
    assert [row["text"] for row in picked_rows(store, load_picks(store, second.key))] == [pool[i] for i in places]


def test_a_token_budget_under_the_shortest_sentence_is_refused(config: CurateConfig) -> None:
    small = config.model_copy(update={"selection": config.selection.model_copy(update={"budget": 1})})
    with pytest.raises(InputError, match="budget 1 tokens is less than the shortest sentence that may be chosen has"):
        chosen(small)


def test_embeddings_for_another_criterion_have_no_gradients(config: CurateConfig) -> None:
    store = Store(config.store)
    other = config.model_copy(update={"selection": config.selection.model_copy(update={"criterion": "information"})})
    corpus = read_corpus(store, other)
    keys = [embed_shard(store, other, shard).key for shard in corpus.facts["shard_keys"]]
    with pytest.raises(InputError, match="no such file"):
        select_informative(store, config, corpus.key, keys)


def test_quotas_go_by_a_column_of_the_corpus(config: CurateConfig, tmp_path: Path) -> None:
    rows = [{"text": f"verse {n} of {'may ' * (n % 5 + 1)}", "kind": "ode" if n % 3 else "hymn"} for n in range(40)]
    (tmp_path / "verses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = config.model_dump()
    values["corpus"]["path"] = str(tmp_path / "verses.jsonl")
    values["selection"] |= {"budget": "8 examples", "quota_column": "kind", "quotas": {"ode": 2}}
    bound = CurateConfig.model_validate(values)
    _, selection, _ = chosen(bound)
    kinds = [row["kind"] for row in picked_rows(Store(config.store), load_picks(Store(config.store), selection.key))]
    assert kinds.count("ode") == 2 and kinds.count("hymn") == 6
