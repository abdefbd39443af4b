"""Text and numbers as people see them: hostile characters made visible, figures in one style everywhere."""

from __future__ import annotations

import math
import re

from fishersft.reporting.summary import Interval

_CONTROLS = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))
_BIDI_CONTROLS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE: dict[int, str] = {
    **{code: f"[U+{code:04X}]" for code in (*_CONTROLS, *_BIDI_CONTROLS)},
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
}
# The ASCII characters that Markdown or HTML may take for structure inside a line; the dot only where GitHub's
# dialect would make a link of it.
_MARKDOWN_STRUCTURE = re.compile(r"[!\"#$&*+:<=>?@\[\\\]^_`{|}~]|(?<=www)\.", re.IGNORECASE)


def visible(text: str) -> str:
    """The text with control characters shown as "[U+001B]", so that none can act on a page or a terminal.

    Shown are the control characters but line breaks (also "\\r\\n") and tabs, and those that reorder what
    follows them (bidirectional embeddings, overrides and isolates). Lone surrogates, which UTF-8 cannot hold,
    become U+FFFD.
    """
    return text.replace("\r\n", "\n").translate(_VISIBLE)


def one_line(text: str) -> str:
    """The text, visible, with every run of white space as one space."""
    return " ".join(visible(text).split())


def markdown(text: str) -> str:
    """The text as one line of Markdown that renders as itself: no emphasis, cell, link, code or HTML."""
    return _MARKDOWN_STRUCTURE.sub(lambda match: f"&#{ord(match[0])};", one_line(text))


def count(value: int | None) -> str:
    """A whole number with thousands separated; an en dash where there is none."""
    return "\u2013" if value is None else f"{value:,}"


def number(value: float | None, digits: int = 2) -> str:
    """A number with fixed decimals; an en dash where there is none."""
    if value is None:
        return "\u2013"
    return f"{value:,.{digits}f}" if math.isfinite(value) else "not finite"


def interval(estimate: Interval | None, digits: int = 2) -> str:
    """A value with its 95% interval: "0.53 [0.41, 0.65]"."""
    if estimate is None:
        return "\u2013"
    low, high = number(estimate.low, digits), number(estimate.high, digits)
    return f"{number(estimate.value, digits)} [{low}, {high}]"


def percent(share: float | None) -> str:
    """A share as a whole percentage; an en dash where there is none."""
    return "\u2013" if share is None else f"{share:.0%}"


def p_value(value: float | None) -> str:
    """A p-value with three decimals, "< 0.001" under that; an en dash where there is none."""
    return "< 0.001" if value is not None and value < 0.001 else number(value, 3)
