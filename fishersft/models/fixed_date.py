"""Dates in chat templates as of one fixed day, so that the tokens of an example do not change overnight."""

from __future__ import annotations

FIXED_DATE = "26 Jul 2024"  # what Llama's templates print where they know no date; at noon
DIRECTIVES = {
    "%-d": "26",
    "%-m": "7",
    "%-y": "24",
    "%-j": "208",
    "%-H": "12",
    "%-I": "12",
    "%-M": "0",
    "%-S": "0",
    "%a": "Fri",
    "%A": "Friday",
    "%b": "Jul",
    "%B": "July",
    "%c": "Fri Jul 26 12:00:00 2024",
    "%d": "26",
    "%D": "07/26/24",
    "%e": "26",
    "%f": "000000",
    "%F": "2024-07-26",
    "%G": "2024",
    "%h": "Jul",
    "%H": "12",
    "%I": "12",
    "%j": "208",
    "%m": "07",
    "%M": "00",
    "%p": "PM",
    "%R": "12:00",
    "%S": "00",
    "%T": "12:00:00",
    "%u": "5",
    "%U": "29",
    "%V": "30",
    "%w": "5",
    "%W": "30",
    "%x": "07/26/24",
    "%X": "12:00:00",
    "%y": "24",
    "%Y": "2024",
    "%z": "",
    "%Z": "",
    "%%": "%",  # last, so that it makes no directive of what follows
}
_COMMON = {"%d %b %Y": FIXED_DATE, "%Y-%m-%d": "2024-07-26"}  # at hand, as forty replacements take longer
# A macro, because transformers passes no functions on to a template.
_CLOCK = (
    f"{{%- macro strftime_now(format) -%}}{{{{- {_COMMON} [format] or format"
    + "".join(f" | replace({directive!r}, {value!r})" for directive, value in DIRECTIVES.items())
    + " -}}{%- endmacro -%}{{- '' }}"
)


def asks_for_date(template: str) -> bool:
    """Whether a chat template asks for today's date."""
    return "strftime_now" in template


def with_fixed_date(template: str) -> str:
    """A chat template that prints the fixed day's date in the place of today's."""
    return _CLOCK + template if asks_for_date(template) else template
