"""Code in Markdown that holds any text, however hostile."""

from __future__ import annotations

import re


def code(text: str) -> str:
    """A code span that holds any text: control characters escaped, fenced by more backticks than it has."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    fence = "`" * (1 + _longest_run(shown))
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def fenced(language: str, body: str) -> str:
    """A fenced block that holds any text."""
    fence = "`" * max(3, 1 + _longest_run(body))
    return f"{fence}{language}\n{body.rstrip()}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
