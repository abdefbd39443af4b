"""What is embedded: Shakespeare's speeches, in the order of the corpus."""

from __future__ import annotations

import json
from pathlib import Path

from fishersft.config import CurateConfig
from fishersft.config.files import load_config

EXAMPLE = Path(__file__).parents[2] / "examples" / "shakespeare.yaml"


def settings_for(folder: Path, texts: list[str], dtype: str) -> CurateConfig:
    """The demo's settings on these texts alone, with a store of its own in `folder`; at most 64 tokens a text."""
    corpus = folder / "speeches.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    changes = [
        f"corpus.path={corpus}",
        "corpus.format=jsonl",
        "corpus.pattern=null",
        "corpus.max_rows=null",
        "embedding.shard_rows=1024",
        f"store={folder / 'store'}",
    ]
    return load_config(EXAMPLE, [*changes, "corpus.held_out_fraction=0.05", f"model.dtype={dtype}"])


def speeches(number: int) -> list[str]:
    """So many of them, as the demo reads them."""
    from fishersft.data.examples import TextExample
    from fishersft.data.formats import example_of
    from fishersft.data.readers import ReadCounts, read_rows

    config = load_config(EXAMPLE).corpus
    found: dict[str, None] = {}
    for row in read_rows(config, ReadCounts()):
        example = example_of(row, config)
        if isinstance(example, TextExample):
            found.setdefault(example.text)
        if len(found) == number:
            break
    return list(found)
