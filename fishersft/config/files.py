"""Configuration as YAML: reading it with overrides from the command line, and printing the defaults with comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from fishersft.config import CurateConfig
from fishersft.config.fields import Section
from fishersft.data.locations import display_name
from fishersft.errors import InputError

Settings = TypeVar("Settings", bound=Section)


def load_config(path: Path, overrides: Sequence[str] = ()) -> CurateConfig:
    """The settings of a curation run, as `load_settings`."""
    return load_settings(path, overrides, CurateConfig)


def load_settings(path: Path, overrides: Sequence[str], kind: type[Settings]) -> Settings:
    """Reads a YAML file and applies overrides such as `selection.budget=500`.

    Raises:
        InputError: the file is missing or not YAML, an override has no `=`, or a setting is unknown or wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; `fishersft config > {path.name}` writes one to start from") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a readable YAML file: {error}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected settings such as `corpus:`, found {type(values).__name__}")
    return _overridden(values, overrides, str(path), kind)


def load_run(sources: Sequence[Path], overrides: Sequence[str] = ()) -> CurateConfig:
    """The settings of a curation run from a YAML file, or for data files and folders with all defaults.

    Raises:
        InputError: as `load_settings`; or a YAML file is among several sources.
    """
    if not any(is_config(source) for source in sources):
        paths = [str(source) for source in sources]
        values = {"corpus": {"path": paths[0] if len(paths) == 1 else paths}}
        return _overridden(values, overrides, ", ".join(paths), CurateConfig)
    if len(sources) > 1:
        raise InputError(f"a CONFIG.yaml stands alone, but {len(sources)} sources were given; name one")
    return load_config(sources[0], overrides)


def is_config(path: Path) -> bool:
    """Whether a path names a YAML file of settings."""
    return path.suffix in (".yaml", ".yml")


def _overridden(values: dict[str, Any], overrides: Sequence[str], place: str, kind: type[Settings]) -> Settings:
    for override in overrides:
        _apply(values, override)
    return checked_config(values, place, kind)


def checked_config(values: dict[str, Any], place: str, kind: type[Settings]) -> Settings:
    """The configuration that `values` are.

    Args:
        place: where they come from, for errors.
        kind: of settings.

    Raises:
        InputError: a setting is unknown, wrong or missing.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = "\n".join(f"  {fault}" for fault in faults(error))
        raise InputError(f"{place}: {error.error_count()} settings are wrong\n{lines}") from error


def faults(error: ValidationError) -> list[str]:
    """What is wrong with some settings, a line each: "selection.budget: Input should be greater than 0 (found 0)"."""
    return [_fault(item) for item in error.errors()]


def commented_defaults(kind: type[CurateConfig] = CurateConfig) -> str:
    """All settings with their defaults as YAML, each with its description above it."""
    what = "a curation run" if kind is CurateConfig else "a comparison"
    header = f"# Settings of {what}. Required: corpus.path. Everything else has the default shown.\n"
    return header + "\n".join(_commented(kind, 0)) + "\n"


def _apply(values: dict[str, Any], override: str) -> None:
    name, separator, text = override.partition("=")
    if not separator or not name:
        raise InputError(f"--set {override}: expected SECTION.SETTING=VALUE, such as selection.budget=20k")
    *sections, setting = name.split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise InputError(f"--set {override}: {section} is not a section")
    try:
        place[setting] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value is not YAML: {error}") from error


def _fault(item: ErrorDetails) -> str:
    name = ".".join(str(part) for part in item["loc"])
    if not name:  # settings of several sections that do not go together
        return item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{name}: is required"
    if item["type"] == "extra_forbidden":
        return f"{name}: no such setting; `fishersft config` lists them"
    if item["type"] == "value_error":  # its message says what was found
        return f"{name}: {item['msg'].removeprefix('Value error, ')}"
    found = item["input"]
    shown = repr(found) if isinstance(found, int | float) else display_name(str(found))[:80]
    return f"{name}: {item['msg']} (found {shown})"


def _commented(model: type[BaseModel], indent: int) -> Iterator[str]:
    pad = " " * indent
    for name, info in model.model_fields.items():
        comment = info.description or ""
        yield from textwrap.wrap(comment, 100 - indent, initial_indent=f"{pad}# ", subsequent_indent=f"{pad}# ")
        section = info.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield f"{pad}{name}:"
            yield from _commented(section, indent + 2)
        elif element := _listed_section(section):
            yield f"{pad}{name}:"
            yield from _as_element(_commented(element, indent + 4))
        else:
            yield f"{pad}{name}: {_default(info)}"


def _listed_section(annotation: Any) -> type[BaseModel] | None:
    """The section that a list is of, if it is of one; its default is one section with the defaults."""
    element = get_args(annotation)[0] if get_origin(annotation) is list else None
    return element if isinstance(element, type) and issubclass(element, BaseModel) else None


def _as_element(lines: Iterator[str]) -> Iterator[str]:
    """The lines of a section as the first element of a list: its first setting has the dash."""
    for line in lines:
        yield line if line.lstrip().startswith("#") else re.sub(r"  (?=\w)", "- ", line, count=1)
        if not line.lstrip().startswith("#"):
            break
    yield from lines


def _default(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "CORPUS.jsonl  # required"
    return yaml.safe_dump(info.default, default_flow_style=True).removesuffix("...\n").strip()
