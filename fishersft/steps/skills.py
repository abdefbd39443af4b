"""Writing the corpora of an experiment on rare skills: a pool with a few common tasks and many rare ones."""

from __future__ import annotations

import random
from pathlib import Path

from fishersft.experiments.skills import SKILLS, draw_questions, zipf_counts
from fishersft.steps.mixed_pools import write_splits


def write_skills(folder: Path, seed: int, *, pool: int = 1000, target: int = 2, held_out: int = 20) -> dict[str, int]:
    """Write `pool.jsonl`, `target.jsonl` and `held-out.jsonl`: rows with "prompt", "completion" and "task".

    The tasks' shares of the pool are Zipf's (1 / rank), and the seed says which task has which rank. Target and
    held-out rows have all tasks alike. No prompt comes twice, in one file or in two.

    Args:
        folder: is made.
        seed: draws all of them, and the tasks' ranks.
        pool: how many rows the pool has.
        target, held_out: how many rows of each task those have.

    Returns:
        How many rows of each task are in the pool, the most common first.

    Raises:
        InputError: a task has too few different prompts.
    """
    rng = random.Random(seed)
    tasks = rng.sample(list(SKILLS), len(SKILLS))
    counts = dict(zip(tasks, zipf_counts(pool, len(tasks)), strict=True))
    splits = [list[dict[str, str]](), list[dict[str, str]](), list[dict[str, str]]()]
    for task, count in counts.items():
        questions = draw_questions(task, count + target + held_out, rng)
        rows = [{"prompt": prompt, "completion": completion, "task": task} for prompt, completion in questions]
        for split, size in zip(splits, (count, target, held_out), strict=True):
            split.extend(rows[:size])
            del rows[:size]
    write_splits(folder, *(rng.sample(split, len(split)) for split in splits))
    return counts
