"""Tokenising a corpus: every row is rendered, tokenised and checked before a model computes anything."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from fishersft.config import CurateConfig
from fishersft.data.examples import Example, is_chat
from fishersft.data.keys import artifact_key
from fishersft.data.store import Draft, Manifest, Store
from fishersft.errors import InputError
from fishersft.steps.corpus import CorpusIndex, example_settings, load_index, shard_examples
from fishersft.steps.models import (
    PreparedTokenizer,
    chat_template_digest,
    check_token_ids,
    most_tokens,
    prepare_tokenizer,
    tokeniser_of,
    trained_config,
)
from fishersft.steps.outcome import OnProgress, Outcome, find_or_make, open_store

if TYPE_CHECKING:
    from fishersft.models.tokenising import Tokenised

TOKENISING_VERSION = 2
TOKENS_FILE = "tokens.safetensors"
# Another version of one of them may tokenise differently.
_LIBRARIES = ("jinja2", "tokenizers", "transformers", "trl")
_BAD_ROWS = 20  # that are named
_ROWS_FOR_PROCESSES = 20_000  # fewer are done before other processes have started


@dataclass
class TokenCounts:
    """What tokenising found.

    Attributes:
        rows: how many examples.
        tokens: that the loss counts.
        cut: examples longer than the model takes, cut to fit.
        lost: those of them whose every loss token was cut off.
        without_loss: examples without a token that the loss counts, those included.
        largest_id: the greatest token id.
        bad: examples that cannot be tokenised; they are part of the pool, but cannot be chosen.
        held_out_bad: those among the held-out ones, which no other count holds.
        bad_rows: the first 20 of both: file, row and reason.
        prints_date: whether the chat template prints the date.
        dropped: by what the chat template leaves out of an example without a word ("reasoning_content", "tool_calls",
            "tools"), how many examples have it.
    """

    rows: int = 0
    tokens: int = 0
    cut: int = 0
    lost: int = 0
    without_loss: int = 0
    largest_id: int = -1
    bad: int = 0
    held_out_bad: int = 0
    bad_rows: list[str] = field(default_factory=list)
    prints_date: bool = False
    dropped: dict[str, int] = field(default_factory=dict)

    def add(self, facts: dict[str, Any]) -> None:
        """Counts a shard's facts in, but for which rows are bad."""
        for name in ("rows", "tokens", "cut", "lost", "without_loss", "bad"):
            setattr(self, name, getattr(self, name) + facts[name])
        self.largest_id = max(self.largest_id, facts["largest_id"])
        self.prints_date |= facts["prints_date"]
        for feature, rows in facts["dropped"].items():
            self.dropped[feature] = self.dropped.get(feature, 0) + rows


def tokenise_shard(store: Store, config: CurateConfig, shard: str) -> Outcome:
    """The token ids and loss positions of a shard's examples for the config's model: an artifact of kind "tokens".

    An example that cannot be tokenised has no token; the facts count such rows and hold the first ones' reasons.
    """
    model = prepare_tokenizer(store, config.model)
    params, inputs = _determinants(model, config, shard)

    def write(draft: Draft) -> None:
        from fishersft.models.token_files import write_tokens

        sentences, facts = _tokenised(model, config, shard_examples(store, config.corpus, shard))
        digest = write_tokens(sentences, draft.folder / TOKENS_FILE)
        by = {"max_tokens": params["max_tokens"], "chat_template": inputs.get("chat_template")}
        draft.facts.update(facts, digest=digest, by=by)

    return find_or_make(store, "tokens", TOKENISING_VERSION, params, inputs, write, [f"shard/{shard}"])


def tokenised(model: PreparedTokenizer, config: CurateConfig, examples: Sequence[Example]) -> list[Tokenised]:
    """Examples as the config's model sees them; those that cannot be tokenised have no token."""
    return _tokenised(model, config, examples)[0]


def tokens_digest(sentences: Sequence[Tokenised]) -> str:
    """One digest of tokenised examples in their order."""
    from fishersft.models.token_files import tokens_digest

    return tokens_digest(sentences)


def shard_tokens(store: Store, tokens: Outcome) -> list[Tokenised]:
    """The tokenised examples of a tokens artifact, in the order of their shard."""
    from fishersft.models.token_files import read_tokens

    return read_tokens(store.fetch("tokens", tokens.key) / TOKENS_FILE)


def check_rows(
    store: Store,
    config: CurateConfig,
    corpora: Sequence[tuple[CurateConfig, str]],
    on_progress: OnProgress | None = None,
) -> list[TokenCounts]:
    """Tokenises every row of some corpora, held-out ones too, for the model that chooses and the one that is trained.

    Args:
        config: of the run.
        corpora: each a config, with that corpus in its place, and a corpus artifact's key.
        on_progress: called with (rows done, in all).

    Returns:
        What it found in the pool of each corpus, for the model that chooses; and then again for the one that is
        trained, if that is another.

    Raises:
        InputError: a row cannot be tokenised, unless `corpus.on_bad_row` is "skip"; or a token id is beyond the model's
            embedding table.
    """
    indexed = [(of, load_index(store, corpus)) for of, corpus in corpora]
    wanted = [_Wanted(of, index, trained_config(of)) for of, index in indexed if config.finetune.model is not None]
    wanted = [*(_Wanted(of, index, of) for of, index in indexed), *wanted]
    _make(store, [(item.settings, shard, rows) for item in wanted for shard, rows in item.shards()], on_progress)
    return [_counted(store, item) for item in wanted]


@dataclass(frozen=True)
class _Wanted:
    """A corpus to tokenise: the config that has it, what it holds, and the config with the model to tokenise for."""

    config: CurateConfig
    index: CorpusIndex
    settings: CurateConfig

    def shards(self) -> Iterator[tuple[str, int]]:
        """Every shard with its number of rows, the held-out one last."""
        return zip([*self.index.shards, self.index.held_out], self.index.rows, strict=True)


def _make(store: Store, todo: Sequence[tuple[CurateConfig, str, int]], on_progress: OnProgress | None) -> None:
    """Tokenises the shards that the store lacks, in several processes where they are many."""
    missing = [(config, shard, rows) for config, shard, rows in todo if _find(store, config, shard) is None]
    total, done = sum(rows for *_, rows in missing), 0
    several = total >= _ROWS_FOR_PROCESSES and (os.cpu_count() or 1) > 1
    for rows in _in_processes(store, missing) if several else _here(store, missing):
        done += rows
        if on_progress:
            on_progress(done, total)


def _here(store: Store, todo: Sequence[tuple[CurateConfig, str, int]]) -> Iterator[int]:
    for config, shard, rows in todo:
        tokenise_shard(store, config, shard)
        yield rows


def _in_processes(store: Store, todo: Sequence[tuple[CurateConfig, str, int]]) -> Iterator[int]:
    largest_first = sorted(todo, key=lambda item: -item[2])  # the held-out shard may be larger than all others
    jobs = [
        (config.store, _tokenised_by(config).model_dump_json(), shard, rows) for config, shard, rows in largest_first
    ]
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "fishersft.models.loading"])  # imported once, not in each process
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_begin_process) as processes:
        done = processes.map(_tokenise_there, jobs, chunksize=4)
        # Loads what the checks after this need while the others start.
        tokeniser_of(prepare_tokenizer(store, todo[0][0].model), todo[0][0])
        yield from done


def _begin_process() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are as many as the cores


def _tokenise_there(job: tuple[str, str, str, int]) -> int:
    url, settings, shard, rows = job
    tokenise_shard(open_store(url), _parsed(settings), shard)
    return rows


@lru_cache(maxsize=4)
def _parsed(settings: str) -> CurateConfig:
    return CurateConfig.model_validate_json(settings)


def _tokenised_by(config: CurateConfig) -> CurateConfig:
    """The settings that tokenising goes by, whatever kind of config they come from."""
    return CurateConfig(corpus=config.corpus, model=config.model)


def _find(store: Store, config: CurateConfig, shard: str) -> Manifest | None:
    params, inputs = _determinants(prepare_tokenizer(store, config.model), config, shard)
    return store.find("tokens", artifact_key("tokens", TOKENISING_VERSION, params, inputs))


def _counted(store: Store, wanted: _Wanted) -> TokenCounts:
    """The counts of the pool, once its rows and the held-out ones are found fit."""
    counts, held_out, places = TokenCounts(), TokenCounts(), list[tuple[str, int, str]]()
    for shard, _ in wanted.shards():
        facts = tokenise_shard(store, wanted.settings, shard).facts
        (held_out if shard == wanted.index.held_out else counts).add(facts)
        places += [(*wanted.index.source_of(shard, row), why) for row, why in facts["bad_rows"]]
    bad = [f"{source}:{number}: {why}" for source, number, why in sorted(places)]
    if bad and wanted.config.corpus.on_bad_row == "stop":
        further = counts.bad + held_out.bad - 1
        raise InputError(
            ("" if wanted.settings is wanted.config else "for finetune.model: ")
            + bad[0]
            + (f" ({further:,} more rows cannot be tokenised either)" if further else "")
            + "; to leave such rows out, set corpus.on_bad_row: skip"
        )
    counts.bad_rows, counts.held_out_bad = bad[:_BAD_ROWS], held_out.bad
    check_token_ids(store, wanted.settings, max(counts.largest_id, held_out.largest_id))
    return counts


def _tokenised(
    model: PreparedTokenizer, config: CurateConfig, examples: Sequence[Example]
) -> tuple[list[Tokenised], dict[str, Any]]:
    """Examples as token ids, none for one that cannot be tokenised, and what there is to say of them."""
    from fishersft.models.tokenising import Tokenised

    tokeniser = tokeniser_of(model, config)
    chat = any(map(is_chat, examples))
    if chat:
        tokeniser.check_chat_template()
    results = tokeniser.many(examples)
    bad = [(row, str(result)) for row, result in enumerate(results) if isinstance(result, InputError)]
    sentences = [Tokenised([], [], False) if isinstance(result, InputError) else result for result in results]
    counted = [sentence.loss_tokens for sentence in sentences]
    return sentences, {
        "rows": len(sentences),
        "tokens": sum(counted),
        "read": sum(len(sentence.input_ids) for sentence in sentences),
        "cut": sum(sentence.truncated for sentence in sentences),
        "lost": sum(sentence.truncated and not tokens for sentence, tokens in zip(sentences, counted, strict=True)),
        "without_loss": counted.count(0),
        "largest_id": max((max(sentence.input_ids, default=-1) for sentence in sentences), default=-1),
        "bad": len(bad),
        "bad_rows": bad[:_BAD_ROWS],
        "dropped": Counter(feature for example in examples for feature in tokeniser.left_out(example)),
        "prints_date": chat and tokeniser.prints_date,
    }


def _determinants(model: PreparedTokenizer, config: CurateConfig, shard: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Params and inputs of the key."""
    params: dict[str, Any] = {
        "max_tokens": most_tokens(model, config.model),
        "example": example_settings(config.corpus),
        "libraries": _library_versions(),
    }
    inputs = {"tokenizer": model.tokenizer, "shard": shard}
    if config.corpus.chat_template is not None:
        inputs["chat_template"] = chat_template_digest(config.corpus.chat_template)
    return params, inputs


@lru_cache(maxsize=1)
def _library_versions() -> dict[str, str | None]:
    return {name: _version(name) for name in _LIBRARIES}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
