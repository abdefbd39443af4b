"""Logs that a person can follow: bad input is one line, not a traceback."""

from __future__ import annotations

import logging

from fishersft.errors import InputError


def _without_traceback(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, InputError):
        record.exc_info = None
        if str(error) not in record.getMessage():
            record.msg, record.args = "%s: %s", (record.getMessage(), error)
    return True


def shorten_input_errors() -> None:
    """Leaves the traceback out where Prefect logs an `InputError`: its message says what to do."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_without_traceback)
