"""What needs Prefect registers itself as an entry point, so that the library starts it without importing it."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from fishersft.errors import InputError


def load_plug_in(group: str, name: str) -> Any:
    """The object of that name in an entry point group of `pyproject.toml`, such as "curate" in "fishersft.flows".

    Raises:
        InputError: it is not installed, or what it needs is not.
    """
    for entry in entry_points(group=group, name=name):
        try:
            return entry.load()
        except ModuleNotFoundError as error:
            raise InputError(
                f"this command runs with Prefect and needs {error.name}; pip install 'fishersft[flows]'"
            ) from error
    raise InputError(f"no {name!r} is installed among {group}; install fishersft with pip, not by copying its folder")
