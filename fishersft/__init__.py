"""FisherSFT: choose the fine-tuning examples that carry most information (Deb et al., ICML 2025).

`fishersft.select` and its types are loaded on first use, so that importing the package is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fishersft import baselines
    from fishersft.numerics import Selection, TokenBlocks, select

__all__ = ["Selection", "TokenBlocks", "baselines", "select"]


def __getattr__(name: str) -> Any:
    if name == "baselines":
        return import_module("fishersft.baselines")
    if name in __all__:
        return getattr(import_module("fishersft.numerics"), name)
    raise AttributeError(f"module 'fishersft' has no attribute {name!r}")
