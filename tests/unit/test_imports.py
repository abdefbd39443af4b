"""Imports go one way: deployments -> flows -> tasks -> fishersft, and numerics knows neither models nor the store."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORBIDDEN = {
    "fishersft": {"prefect", "tasks", "flows", "deployments"},
    "fishersft/numerics": {
        "transformers", "trl", "peft", "datasets", "fsspec", "s3fs", "pyarrow", "pydantic",
        "fishersft.models", "fishersft.data", "fishersft.reporting", "fishersft.steps", "fishersft.config",
    },
    "fishersft/baselines": {
        "transformers", "trl", "peft", "datasets", "fsspec", "s3fs", "pyarrow", "pydantic",
        "fishersft.models", "fishersft.data", "fishersft.reporting", "fishersft.steps", "fishersft.config",
    },
    "fishersft/data": {"transformers", "fishersft.models", "fishersft.reporting", "fishersft.steps"},
    "fishersft/models": {"fishersft.reporting", "fishersft.steps", "fishersft.data.store"},
    "fishersft/reporting": {"torch", "transformers", "fishersft.models", "fishersft.data", "fishersft.steps"},
    "tasks": {"flows", "deployments"},
    "flows": {"deployments", "torch", "numpy"},
}  # fmt: skip


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_from_above(room: str) -> None:
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for file in files:
        for name in imported(file):
            upward = [bad for bad in FORBIDDEN[room] if name == bad or name.startswith(f"{bad}.")]
            assert not upward, f"{file.relative_to(ROOT)} imports {name}"


def test_embedding_and_selection_load_without_prefect_datasets_and_trl() -> None:
    """The machines that only embed and select have torch and transformers, and nothing of the rest."""
    program = (
        "import sys\n"
        "for name in ('prefect', 'datasets', 'trl', 's3fs'): sys.modules[name] = None\n"
        "import fishersft, fishersft.models.embedding, fishersft.models.loading, fishersft.models.forward\n"
        "print(fishersft.select)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "function select" in done.stdout
