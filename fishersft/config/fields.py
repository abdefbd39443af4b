"""What every section of the configuration is built from: fields for Prefect's run form, and places without secrets."""

from __future__ import annotations

from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from fishersft.data.locations import display_name


def _without_credentials(place: str | list[str] | None) -> str | list[str] | None:
    """Refuses URLs with a password or a signature: Prefect stores a run's parameters in clear."""
    for path in [place] if isinstance(place, str) else place or []:
        if display_name(path) != path:
            raise ValueError(
                f"{display_name(path)} came with credentials or a signature in the URL, which would be stored and "
                "shown with the run; take them out and give them by the environment (such as AWS_ACCESS_KEY_ID)"
            )
    return place


NoCredentials = AfterValidator(_without_credentials)


def described(default: Any, position: int, title: str, description: str, **constraints: Any) -> Any:
    """A field with all that Prefect's run form needs to show it well."""
    return Field(
        default,
        title=title,
        description=description,
        json_schema_extra={"position": position},
        **constraints,
    )


_KINDS = {"null": "empty", "string": "text", "integer": "number", "number": "number", "array": "several"}


def name_choices(schema: dict[str, Any]) -> None:
    """Names the kinds of value that a field can have: the run form shows them as tabs, else as "str" and "None"."""
    for field in schema["properties"].values():
        for kind in field.get("anyOf", ()):
            if "type" in kind:
                kind["title"] = "choice" if "enum" in kind else _KINDS[kind["type"]]


def _section_title(section: type) -> str:
    return section.__name__.removesuffix("Config").lower()


class Section(BaseModel):
    """A section of the configuration: unknown settings are errors, and no error repeats a value."""

    model_config = ConfigDict(
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
        model_title_generator=_section_title,
        json_schema_extra=name_choices,
    )
