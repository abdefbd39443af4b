"""What a run's figures hang on beside its artifacts: its settings and the versions of libraries."""

from __future__ import annotations

import platform
from importlib.metadata import version

from fishersft.config import CorpusConfig, CurateConfig
from fishersft.data.locations import display_name

_LIBRARIES = ("fishersft", "torch", "transformers", "trl", "peft", "datasets", "numpy", "pyarrow")


def shown_config(config: CurateConfig) -> dict[str, object]:
    """The settings, without credentials that a URL may carry, and without approval, which changes no figure."""
    shown = config.model_dump(mode="json", exclude={"approval"})
    shown["store"] = display_name(config.store)
    shown["output"] = display_name(config.output)
    shown["corpus"]["path"] = _shown_paths(config.corpus)
    if config.target is not None:
        shown["target"]["path"] = _shown_paths(config.target)
    return shown


def library_versions() -> dict[str, str]:
    """The versions of what a run's figures hang on."""
    return {"python": platform.python_version(), **{library: version(library) for library in _LIBRARIES}}


def _shown_paths(corpus: CorpusConfig) -> str | list[str]:
    return display_name(corpus.path) if isinstance(corpus.path, str) else [display_name(path) for path in corpus.path]
