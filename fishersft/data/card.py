"""The dataset card: how the rows were chosen, and how to load them and train on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fishersft.config import CurateConfig
from fishersft.data.card_trainers import IMPORT, READ, trainer_sections
from fishersft.data.locations import display_name
from fishersft.data.markdown import code, fenced

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


@dataclass(frozen=True)
class CardFacts:
    """What the card tells about the selection; `information_gain` is in nats, `version` FisherSFT's."""

    config: CurateConfig
    pool_sentences: int
    information_gain: float
    version: str


def dataset_card(facts: CardFacts, rows: Sequence[dict[str, Any]], as_json: Sequence[str], digest: str) -> str:
    """The README.md of a curated dataset, as Markdown with YAML front matter. Names in it are hostile input.

    Args:
        facts: about the selection.
        rows: the chosen rows, as they were read.
        as_json: the Parquet columns that hold JSON strings.
        digest: the sha256 of `curated.parquet`.
    """
    parts = [
        f"---\n{_front_matter(facts.config.name, len(rows), digest)}---",
        f"# {facts.config.name}",
        _chosen(facts, len(rows)),
        _columns(as_json, facts.config.corpus.example == "prompt"),
        "## Licence\n\nThese are rows of the corpus above, so the corpus's own licence applies to them.",
        "## Load\n\n" + fenced("python", f"{IMPORT}\n\n{READ}"),
        *trainer_sections(facts.config.name, facts.config.corpus, rows),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(name: str, rows: int, digest: str) -> str:
    matter = {
        "pretty_name": name,
        # datasets 5.2 caches a folder with a card by its name and this front matter alone: without the digest,
        # load_dataset would go on giving the rows of an earlier selection.
        "dataset_info": {"config_name": "default", "description": f"sha256 of curated.parquet: {digest}"},
        "configs": [{"config_name": "default", "data_files": "curated.parquet"}],
        "size_categories": [next((size for below, size in _SIZES if rows < below), "n>1M")],
        "task_categories": ["text-generation"],
        "tags": ["fishersft", "data-selection", "supervised-fine-tuning"],
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def _chosen(facts: CardFacts, rows: int) -> str:
    config = facts.config
    paths = [config.corpus.path] if isinstance(config.corpus.path, str) else config.corpus.path
    corpus = ", ".join(code(display_name(path)) for path in paths)
    return (
        f"{rows:,} of {facts.pool_sentences:,} sentences of {corpus}, chosen by "
        f"[FisherSFT](https://arxiv.org/abs/2505.14826) {code(facts.version)}: greedily, {_aim(config)}.\n\n"
        "| | |\n| --- | --- |\n"
        f"| Model | {code(display_name(config.model.path)).replace('|', chr(92) + '|')} |\n"
        f"| Budget | {config.selection.budget:,} {config.selection.budget_unit} |\n"
        f"| Criterion | {config.selection.criterion} |\n"
        f"| Regularization | {config.selection.regularization:g} ({config.selection.regularization_unit}) |\n"
        f"| Information gain | {facts.information_gain:.2f} nats |\n"
        f"| Seed | {config.seed} |"
    )


def _aim(config: CurateConfig) -> str:
    if config.selection.criterion == "v-optimal":
        return "what takes most off a language model's prediction variance on a target"
    if config.selection.criterion == "gradient-matching":
        layers = "all layers" if config.matches_all_layers else "the last layer"
        return f"what pulls {layers} of a language model where all of the aim would"
    return "the most informative about the last layer of a language model"


def _columns(as_json: Sequence[str], prompts: bool) -> str:
    counted = "tokens of the prompt" if prompts else "tokens that the loss counts"
    text = (
        "## Columns\n\nThe corpus's own, as they came in, and:\n\n"
        "- `fishersft_rank`: place in the order of choosing, from 1.\n"
        "- `fishersft_gain`: marginal information gain when it was chosen, in nats.\n"
        f"- `fishersft_tokens`: {counted}.\n\n"
        "`curated.jsonl` has the same rows. What JSON has no type for is in it as text: dates and times in "
        "ISO 8601, bytes in base64, decimals in digits; durations are seconds, NaN and infinity null. "
        "In `curated.parquet`, a key that a row lacks is null."
    )
    if as_json:
        text += (
            "\n\nParquet has one type a column, and cannot hold the values of these unchanged: there they "
            f"are JSON strings, as in `curated.jsonl`: {', '.join(map(code, as_json))}."
        )
    return text
