"""The corpora of the experiment on rare skills: who is common, who is rare, and no question twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from fishersft.config import CorpusConfig
from fishersft.data.formats import example_of
from fishersft.data.readers import ReadCounts, read_rows
from fishersft.models.tokenising import Tokeniser
from fishersft.steps.skills import write_skills

COUNTS = [322, 161, 107, 81, 65, 54, 46, 40, 36, 32, 29, 27]  # 1,000 / rank / (1 + 1/2 + ... + 1/12)


def rows(folder: Path) -> list[list[dict[str, str]]]:
    files = (folder / f"{name}.jsonl" for name in ("pool", "target", "held-out"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def test_a_pool_has_zipfs_shares_and_target_and_held_out_have_all_tasks_alike(tmp_path: Path) -> None:
    counts = write_skills(tmp_path, seed=0)
    pool, target, held_out = rows(tmp_path)
    assert list(counts.values()) == COUNTS and Counter(row["task"] for row in pool) == counts
    assert Counter(row["task"] for row in target) == dict.fromkeys(counts, 2)
    assert Counter(row["task"] for row in held_out) == dict.fromkeys(counts, 20)
    assert len({row["prompt"] for row in [*pool, *target, *held_out]}) == 1000 + 24 + 240
    assert len({row["task"] for row in pool[:100]}) > 6


def test_the_seed_draws_examples_and_ranks(tmp_path: Path) -> None:
    first, same, other = (write_skills(tmp_path / folder, seed) for folder, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert list(first) == list(same) != list(other)
    assert rows(tmp_path / "a") == rows(tmp_path / "b")
    prompts = [{row["prompt"] for split in rows(tmp_path / folder) for row in split} for folder in "ac"]
    assert len(prompts[0] & prompts[1]) < 200


def test_the_loss_counts_the_answer_alone(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    write_skills(tmp_path, seed=0)
    corpus = CorpusConfig(path=str(tmp_path / "target.jsonl"), example="prompt-completion")
    row = next(iter(read_rows(corpus, ReadCounts())))
    example = example_of(row, corpus)
    assert example is not None
    tokenised = Tokeniser(tokenizer, 64)(example)
    counted = [token for token, own in zip(tokenised.input_ids, tokenised.loss_mask, strict=True) if own]
    assert tokenizer.decode(counted).strip() == row.data["completion"].strip() + str(tokenizer.eos_token)
