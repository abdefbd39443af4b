"""Instructions in the format of Self-Instruct's seed tasks, as prompts and completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fishersft.config import CorpusConfig
from fishersft.data.readers import ReadCounts, read_rows
from fishersft.errors import InputError


def write_prompts_and_completions(file: Path, written: Path) -> None:
    """Writes a JSONL row with "prompt" and "completion" for the first instance of each task.

    Args:
        file: JSONL; each row has an "instruction" and "instances", of which each has an "input", maybe empty, and an
            "output".
        written: the file to write; its folder is made.

    Raises:
        InputError: a row is not like that.
    """
    rows = read_rows(CorpusConfig(path=str(file), format="jsonl"), ReadCounts())
    lines = [json.dumps(_prompt_and_completion(row.data, row.place)) + "\n" for row in rows]
    written.parent.mkdir(parents=True, exist_ok=True)
    written.write_text("".join(lines), encoding="utf-8")


def _prompt_and_completion(task: dict[str, Any], where: str) -> dict[str, str]:
    match task:
        case {"instruction": str(instruction), "instances": [{"input": str(given), "output": str(output)}, *_]}:
            return {"prompt": f"{instruction}\n{given}\n" if given else f"{instruction}\n", "completion": output}
    raise InputError(
        f'{where} is no task: expected an "instruction" and "instances" with an "input" and an "output", as in '
        "Self-Instruct's seed_tasks.jsonl"
    )
