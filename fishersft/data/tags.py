"""Tags: names for artifacts that gc is to keep, each a record `ROOT/.tags/NAME.json`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, ValidationError

from fishersft.data.artifact_names import ArtifactName
from fishersft.data.files import Files
from fishersft.data.runs import store_time
from fishersft.errors import InputError

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FILE = re.compile(rf"\.tags/({_NAME.pattern})\.json")


class Tag(BaseModel):
    """What a name stands for: artifacts by "kind/key", and what was tagged in words."""

    roots: list[ArtifactName]
    what: str
    created: datetime


def write_tag(files: Files, name: str, what: str, roots: Sequence[str]) -> None:
    """Gives artifacts a name.

    Raises:
        InputError: it is no name, or stands for something already.
    """
    _check(name)
    if files.exists(_file(name)):
        raise InputError(f"there is a tag {name} already; `fishersft store untag {name}` takes it away")
    tag = Tag(roots=list(roots), what=what, created=store_time(files))
    files.write(_file(name), tag.model_dump_json(indent=1).encode())


def remove_tag(files: Files, name: str) -> None:
    """Takes a name away; what it stood for stays until gc.

    Raises:
        InputError: there is no such tag.
    """
    _check(name)
    if not files.exists(_file(name)):
        raise InputError(f"there is no tag {name}; there are: {', '.join(read_tags(files)) or 'none'}")
    files.remove([_file(name)])


def read_tags(files: Files, twice: bool = False) -> dict[str, Tag]:
    """All tags by name; `twice` as `Files.list` has it.

    Raises:
        InputError: one is not readable.
    """
    tags = {}
    for file in files.list(".tags", twice):
        match = _FILE.fullmatch(file.name)
        if match is None:
            continue
        try:
            tags[match[1]] = Tag.model_validate_json(files.read(file.name))
        except FileNotFoundError:  # removed since it was listed
            continue
        except ValidationError as error:
            raise InputError(
                f"{file.name} in the store is no tag of FisherSFT ({error.error_count()} faults); delete that file "
                "and tag again what it stood for"
            ) from error
    return tags


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no name for a tag: expected letters, digits, dots and dashes, such as paper-v1")


def _file(name: str) -> str:
    return f".tags/{name}.json"
