"""Getting the model that a config names, or one that an earlier step fine-tuned, ready to load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import TYPE_CHECKING, Any

from fishersft.config import CurateConfig, ModelConfig
from fishersft.data.keys import digest_of
from fishersft.data.store import Draft, Store
from fishersft.errors import InputError
from fishersft.models.source import find_model, find_tokenizer, tokenizer_fingerprint
from fishersft.steps.outcome import find_or_make
from fishersft.steps.weights import weights_folder

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from fishersft.models.tokenising import Tokeniser

CONVERSION_VERSION = 1
_slots: dict[tuple[str, ...], Queue[str]] = {}
_slots_lock = Lock()
_loading = Lock()  # transformers changes what all threads share while it loads: two at once leave weights without data
_loaded: dict[torch.device | None, tuple[object, PreTrainedModel]] = {}
SPREAD = "spread"  # in the place of a device: over all that there are
_CONTEXT_SETTINGS = ("max_position_embeddings", "n_positions", "max_sequence_length")


@dataclass(frozen=True)
class PreparedTokenizer:
    """A folder whose tokenizer `from_pretrained` loads.

    Attributes:
        folder: on this machine.
        context: the most tokens that the model takes at once.
        tokenizer: a fingerprint of the tokenizer's files.
    """

    folder: Path
    context: int
    tokenizer: str


@dataclass(frozen=True)
class PreparedModel(PreparedTokenizer):
    """A folder that `from_pretrained` loads, weights and tokenizer.

    Attributes:
        fingerprint: determines both.
        sources: the artifact that it is, as "kind/key"; none where it is a folder of the user's.
    """

    fingerprint: str
    sources: tuple[str, ...] = ()


def prepare_model(store: Store, config: ModelConfig) -> PreparedModel:
    """The model that the config names; a GGUF file is converted once and kept in the store.

    Raises:
        InputError: there is no such model, or neither it nor the config says how many tokens it takes.
    """
    source = find_model(config)
    if not source.is_gguf:
        return _prepared(source.path, source.fingerprint, config)

    def convert(draft: Draft) -> None:
        from fishersft.models.loading import convert_gguf

        convert_gguf(source.path, draft.folder)

    outcome = find_or_make(store, "model", CONVERSION_VERSION, {"from": "gguf"}, {"gguf": source.fingerprint}, convert)
    return _prepared(store.fetch("model", outcome.key), outcome.key, config, f"model/{outcome.key}")


def prepare_trained(store: Store, config: ModelConfig, trained: str | None) -> PreparedModel:
    """The model of the training of that key, or for None the model that the config names.

    Raises:
        InputError: the training's weights are gone.
    """
    if trained is None:
        return prepare_model(store, config)
    return _prepared(weights_folder(store, trained), trained, config, f"training/{trained}")


def identity_of(base: PreparedModel, trained: str | None) -> tuple[str, tuple[str, ...]]:
    """The fingerprint and sources of what `prepare_trained` gives; needs no weights of a training."""
    return (base.fingerprint, base.sources) if trained is None else (trained, (f"training/{trained}",))


def _prepared(folder: Path, fingerprint: str, config: ModelConfig, *sources: str) -> PreparedModel:
    return PreparedModel(folder, _context_length(folder, config), tokenizer_fingerprint(folder), fingerprint, sources)


def prepare_tokenizer(store: Store, config: ModelConfig) -> PreparedTokenizer:
    """The tokenizer of the model that the config names; weights are needed only for a GGUF file, which has both.

    Raises:
        InputError: there is no such model, or neither it nor the config says how many tokens it takes.
    """
    folder = find_tokenizer(config)
    if folder is None:
        return prepare_model(store, config)
    return PreparedTokenizer(folder, _context_length(folder, config), tokenizer_fingerprint(folder))


def trained_config(config: CurateConfig) -> CurateConfig:
    """The config with the model that is fine-tuned in the place of the one that chooses; mostly they are the same."""
    return config if config.finetune.model is None else config.model_copy(update={"model": config.finetune.model})


def most_tokens(model: PreparedTokenizer, config: ModelConfig) -> int:
    """How many tokens a sentence may have: the config's number, at most the model's context."""
    return min(config.max_tokens or model.context, model.context)


def tokeniser_of(model: PreparedTokenizer, config: CurateConfig) -> Tokeniser:
    """The tokeniser that a config asks for, with the tokenizer of a model that `config.model` names or started from."""
    most, trusted = most_tokens(model, config.model), config.model.trust_remote_code
    alone = PreparedTokenizer(model.folder, model.context, model.tokenizer)  # found again whatever the weights are
    setting = config.corpus.chat_template
    return loaded_tokeniser(alone, most, trusted, None if setting is None else _template_text(setting))


@lru_cache(maxsize=4)
def loaded_tokeniser(
    model: PreparedTokenizer, max_tokens: int, trust_remote_code: bool, chat_template: str | None = None
) -> Tokeniser:
    """The tokeniser of a model, kept for the next call with the same fingerprint.

    Args:
        chat_template: the text of one in the place of the tokenizer's own; not its path, whose file may change.
    """
    from fishersft.models.loading import load_tokenizer
    from fishersft.models.tokenising import Tokeniser

    tokenizer = load_tokenizer(model.folder, trust_remote_code)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return Tokeniser(tokenizer, max_tokens)


def loaded_model(model: PreparedModel, dtype: str, device: str | None, trust_remote_code: bool) -> PreTrainedModel:
    """The model, kept for the next call with the same fingerprint: only for reading from it, never for training.

    Every device keeps one; `SPREAD` is one, too. Threads may ask at once: one loads, and the others get the same.
    """
    from fishersft.models.loading import load_model

    place, which = resolved(device), (model, dtype, trust_remote_code)
    with _loading:
        if place not in _loaded or _loaded[place][0] != which:
            _loaded.pop(place, None)  # before the next one takes its room
            _loaded[place] = which, load_model(model.folder, dtype, place, trust_remote_code)
        return _loaded[place][1]


def chat_template_digest(setting: str) -> str:
    """The digest of the template that `corpus.chat_template` names."""
    return digest_of(_template_text(setting))


def _template_text(setting: str) -> str:
    from fishersft.models.chat import chat_template_text

    return chat_template_text(setting)


def release_models() -> None:
    """Forgets the models that were kept for reading, so that a training has their room on the device."""
    _loaded.clear()


def device_of(config: CurateConfig) -> str | None:
    """The device that a config asks for, `SPREAD` where its model is laid over several; None: the best there is."""
    return SPREAD if config.model.spread else config.device


def resolved(device: str | None) -> torch.device | None:
    """The device of that name, for None the best there is; None for `SPREAD`, as `load_model` wants it."""
    from fishersft.numerics import resolve_device

    return None if device == SPREAD else resolve_device(device)


@contextmanager
def computing_device(wanted: str | None) -> Iterator[str]:
    """A device for the caller alone, of those that `devices_of` gives.

    So as many threads compute as there are devices, while others read, tokenise or upload.
    """
    devices = tuple(devices_of(wanted))
    with _slots_lock:
        if devices not in _slots:
            _slots[devices] = Queue()
            for device in devices:
                _slots[devices].put(device)
    device = _slots[devices].get()
    try:
        yield device
    finally:
        _slots[devices].put(device)


def devices_of(wanted: str | None) -> list[str]:
    """The devices that may compute at once: the one that is wanted, or all GPUs, or else the CPU."""
    import torch

    if wanted is not None:
        return [wanted]
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def check_token_ids(store: Store, config: CurateConfig, largest: int) -> None:
    """Raises InputError where a token that the corpus or the tokenizer needs is beyond the model's embedding table.

    Args:
        largest: the greatest token id of the corpus.
    """
    from fishersft.models.vocabulary import check_vocabulary

    model = prepare_tokenizer(store, config.model)
    tokenizer = tokeniser_of(model, config).tokenizer
    check_vocabulary(model.folder, tokenizer, largest, config.model.trust_remote_code)


def _context_length(folder: Path, config: ModelConfig) -> int:
    try:
        settings: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"the model in {folder.name}: its config.json is not JSON: {error}") from error
    for place in (settings, settings.get("text_config", {})):
        for name in _CONTEXT_SETTINGS:
            if isinstance(place.get(name), int):
                return place[name]
    if config.max_tokens is None:
        raise InputError(f"the model in {folder.name} does not say its context length; set model.max_tokens")
    return config.max_tokens
