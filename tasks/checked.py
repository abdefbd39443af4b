"""Flows whose parameters are refused with one line: a typo in the run form is no reason for a traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Flow
from prefect.exceptions import ParameterTypeError
from pydantic import ValidationError

from fishersft.config.files import faults
from fishersft.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


class CheckedFlow(Flow[P, R]):
    """A flow whose state says in one line which settings are wrong and why, before any work is done."""

    def validate_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """The parameters as their types have it.

        Raises:
            InputError: one does not fit, or they do not go together.
        """
        try:
            return super().validate_parameters(parameters)
        except ParameterTypeError as error:
            if not isinstance(error.__context__, ValidationError):
                raise
            wrong = [fault.removeprefix("config.").removeprefix("config: ") for fault in faults(error.__context__)]
            raise InputError("; ".join(wrong)) from error


def flow(**options: Any) -> Callable[[Callable[P, R]], CheckedFlow[P, R]]:
    """Prefect's decorator of that name, with the same options, for a `CheckedFlow`."""
    return lambda function: CheckedFlow(function, **options)
