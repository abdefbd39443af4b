"""From a model's name in the config to a folder that `from_pretrained` loads, and a fingerprint of its weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fishersft.config import ModelConfig
from fishersft.data.keys import digest_of, file_digest
from fishersft.data.locations import package_file
from fishersft.errors import InputError

# config.json is none of them: it differs between models that share a tokenizer.
_TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.jinja",
    "*.model",
    "tokenization*.py",
)
_MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "*.py")


@dataclass(frozen=True)
class ModelSource:
    """A model that is there: a folder, or one GGUF file; the fingerprint is a sha256 of all its files."""

    path: Path
    fingerprint: str

    @property
    def is_gguf(self) -> bool:
        """Whether the model must be converted before `from_pretrained` loads it fast."""
        return self.path.is_file()


def find_model(config: ModelConfig) -> ModelSource:
    """Finds the model that the config names, without loading it.

    Raises:
        InputError: there is no such package file, folder or hub id; the folder holds no model; the weights are
            in a pickle format.
    """
    name = config.path
    if name.startswith("package:"):
        return _gguf_file(package_file(name))
    path = Path(name).expanduser()
    if path.is_file():
        return _gguf_file(path)
    if path.is_dir():
        return _folder(path, name)
    _check_not_missing(name, path)
    return _folder(_hub_snapshot(name, config.revision, _MODEL_FILES), name)


def _check_not_missing(name: str, path: Path) -> None:
    local = name.startswith((".", "/", "~")) or name.count("/") > 1 or name.endswith(".gguf")
    if local and not path.exists():
        raise InputError(f"model {name}: there is no such file or folder; check its path")


def _gguf_file(path: Path) -> ModelSource:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise InputError(
            f"model {path.name}: expected a GGUF file or a folder with config.json and *.safetensors, "
            f"found a file that starts with {magic!r}"
        )
    return ModelSource(path, _remembered_digest(path))


def _folder(path: Path, name: str) -> ModelSource:
    _check_settings(path, name)
    if not any(path.glob("*.safetensors")):
        raise InputError(
            f"model {name}: the folder has no *.safetensors file; convert the weights first "
            "(pickled weights are not loaded: they can run code)"
        )
    files = {file for pattern in _MODEL_FILES for file in path.glob(pattern)}
    return ModelSource(path, digest_of(sorted((file.name, _remembered_digest(file)) for file in files)))


def find_tokenizer(config: ModelConfig) -> Path | None:
    """The folder with the tokenizer and the settings of the model that the config names; None for a GGUF file.

    Of a hub's model no weights are fetched.

    Raises:
        InputError: there is no such folder or hub id, or it holds no model's config.json.
    """
    name = config.path
    path = Path(name).expanduser()
    if name.startswith("package:") or path.is_file():
        return None
    _check_not_missing(name, path)
    folder = path if path.is_dir() else _hub_snapshot(name, config.revision, (*_TOKENIZER_FILES, "config.json"))
    _check_settings(folder, name)
    return folder


def tokenizer_fingerprint(folder: Path) -> str:
    """A sha256 of a folder's tokenizer files: models that were trained from each other mostly share it."""
    files = sorted({file for pattern in _TOKENIZER_FILES for file in folder.glob(pattern)})
    return digest_of([(file.name, _remembered_digest(file)) for file in files])


def _remembered_digest(path: Path) -> str:
    """The file's sha256, read again only when its size or its time of change is another."""
    state = path.stat()
    return _digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _digest(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def _check_settings(path: Path, name: str) -> None:
    if not (path / "config.json").is_file():
        raise InputError(f"model {name}: the folder has no config.json; name a folder that save_pretrained wrote")


def _hub_snapshot(name: str, revision: str | None, files: tuple[str, ...]) -> Path:
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(files)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, HTTPError, OSError) as error:
        raise InputError(
            f"model {name}: neither a local path nor to be had from the Hugging Face hub "
            f"({type(error).__name__}); check its name and revision, the network, and whether it needs a login"
        ) from error
