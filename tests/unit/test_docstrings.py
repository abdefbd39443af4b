"""The examples in the library's docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fishersft
from fishersft.numerics import TokenBlocks

SHARED = {"np": np, "torch": torch, "Path": Path, "TokenBlocks": TokenBlocks}
MODULES = [module.name for module in pkgutil.walk_packages(fishersft.__path__, "fishersft.")]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str) -> None:
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs=SHARED, optionflags=doctest.ELLIPSIS)
    assert found.failed == 0


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    examples = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(examples) > 30
