"""`prefect.yaml` read: each deployment as it stands there, with the flow that it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema


@dataclass(frozen=True)
class Described:
    """A deployment of `prefect.yaml`: its settings there, and its flow."""

    settings: dict[str, Any]
    flow: Flow[..., Any]

    @property
    def name(self) -> str:
        """Such as curate/nightly."""
        return f"{self.flow.name}/{self.settings['name']}"

    @property
    def parameter_schema(self) -> dict[str, Any]:
        """What the run form is made from, and parameters are checked against."""
        return parameter_schema(self.flow).model_dump(mode="json", exclude_unset=True)


def described_deployments() -> Iterator[Described]:
    """Every deployment of `prefect.yaml`, in order."""
    text = resources.files("deployments").joinpath("prefect.yaml").read_text(encoding="utf-8")
    for settings in yaml.safe_load(text)["deployments"]:
        yield Described(settings, load_flow_from_entrypoint(settings["entrypoint"], use_placeholder_flow=False))
