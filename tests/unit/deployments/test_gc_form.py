"""The run form of store/gc: what it shows, and what it refuses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import jsonschema
import pytest

from deployments.description import described_deployments
from fishersft.errors import InputError
from fishersft.steps.collecting import age
from flows.gc import gc


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    (described,) = [each for each in described_deployments() if each.name == "store/gc"]
    return described.parameter_schema


def test_every_field_has_a_title_and_a_description(schema: dict[str, Any]) -> None:
    fields = schema["properties"]
    assert [field["title"] for field in fields.values()] == ["Store", "Runs to keep", "Older than"]
    assert all(field["description"] for field in fields.values())


@pytest.mark.parametrize("older_than", ["0h", "30d", "99999h", "99999d"])
def test_an_age_that_is_taken_is_a_date(schema: dict[str, Any], older_than: str) -> None:
    jsonschema.validate({"store": "store", "older_than": older_than}, schema)
    assert (datetime.now(UTC) - age(older_than)).year > 1


@pytest.mark.parametrize("older_than", ["999999d", "-1d", "30", "30 d"])
def test_an_age_that_is_none_is_refused(schema: dict[str, Any], older_than: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"store": "store", "older_than": older_than}, schema)
    with pytest.raises(InputError):
        gc.validate_parameters({"store": "store", "older_than": older_than})
    with pytest.raises(InputError, match="expected days or hours, such as 30d or 12h, 99999 at most"):
        age(older_than)
