"""Stores with a few artifacts that were made from one another."""

from __future__ import annotations

from collections.abc import Sequence

from fishersft.data.store import Store

OLD_SHARD, SHARD, CORPUS, EMBEDDINGS, SELECTION = (
    f"{kind}/{digit * 64}"
    for kind, digit in (
        ("shard", "0"),
        ("shard", "1"),
        ("corpus", "2"),
        ("embeddings", "3"),
        ("selection", "4"),
    )
)
LINEAGE = {
    OLD_SHARD: [],
    SHARD: [],
    CORPUS: [SHARD],
    EMBEDDINGS: [SHARD],
    SELECTION: [CORPUS, EMBEDDINGS],
}


def publish(store: Store, name: str, sources: Sequence[str] = (), text: str = "thou") -> None:
    """Publishes an artifact of that "kind/key" with one file, `rows.txt`."""
    kind, _, key = name.partition("/")
    with store.publish(kind, key, {"a": 1}, {"from": "b"}, sources) as draft:
        (draft.folder / "rows.txt").write_text(text)
        draft.facts["rows"] = 1


def publish_all(store: Store) -> None:
    """Publishes the artifacts of `LINEAGE`."""
    for name, sources in LINEAGE.items():
        publish(store, name, sources)


def published(store: Store) -> set[str]:
    """The names of the artifacts that a store has."""
    names = {file.name for file in store.files.list()}
    return {name.removesuffix("/manifest.json") for name in names if name.endswith("/manifest.json")}
