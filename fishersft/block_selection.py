"""The command `fishersft select` on files of token blocks: no config, no store, no model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from fishersft import terminal
from fishersft.config import MEMORY_PATTERN, SelectionConfig
from fishersft.data.block_files import (
    blocks_file,
    bytes_of,
    check_place,
    read_blocks,
    read_picks,
    read_weights,
    write_picks,
)
from fishersft.errors import InputError
from fishersft.numerics import Blocks, TokenBlocks
from fishersft.steps.choosing import choose, selection_facts, stored_pool, variance_facts


@dataclass(frozen=True)
class BlockRun:
    """What was asked for: files of token blocks, settings of `SelectionConfig`, conditions and the place for picks.

    `include` and `exclude` are block numbers with commas; `excluded_picks` is a file that `output` wrote earlier;
    `memory` such as "4G" leaves the pool on disk.
    """

    sources: Sequence[Path]
    settings: dict[str, Any]
    target: Path | None
    already_selected: Path | None
    include: str
    exclude: str
    excluded_picks: Path | None
    memory: str | None
    output: Path | None


def select_from_blocks(run: BlockRun) -> None:
    """Chooses, prints what was chosen and what is proven, and writes the picks where asked to.

    Raises:
        InputError: a setting is wrong, or a file is not what it should be.
    """
    settings = _settings(run)
    if run.output and run.output.suffix != ".parquet":
        raise InputError(f"{run.output}: picks are written as .parquet")
    if run.output:
        check_place(run.output)
    exclude = _numbers("--exclude", run.exclude)
    if run.excluded_picks is not None:
        exclude += read_picks(run.excluded_picks)
    target = None if run.target is None else read_blocks(run.target)
    earlier = None if run.already_selected is None else _read([run.already_selected], settings)
    blocks = _read(run.sources, settings) if run.memory is None else _stored(run.sources, run.memory, settings)
    with terminal.progress_bars() as progress:
        selection = choose(
            blocks,
            settings,
            terminal.bar(progress, "selecting"),
            target=target,
            already_selected=earlier,
            include=_numbers("--include", run.include),
            exclude=np.array(exclude, dtype=np.int64),
            checkpoint=None if run.output is None else run.output.with_name(f"{run.output.name}.partial.json"),
        )
    facts = selection_facts(selection)
    if target is not None:
        facts |= variance_facts(selection, target, earlier)
    terminal.print_picks(selection)
    terminal.print_selection(facts)
    if run.output:
        write_picks(selection, run.output)
        terminal.print_path("picks", str(run.output))


def _settings(run: BlockRun) -> SelectionConfig:
    if "budget" not in run.settings:
        raise InputError("--budget is required with token blocks")
    if run.settings.get("criterion") == "gradient-matching":
        raise InputError(
            "criterion gradient-matching needs gradients, which token blocks have not; give a corpus, or choose "
            "another criterion"
        )
    if (run.settings.get("criterion") == "v-optimal") != (run.target is not None):
        raise InputError(
            "with token blocks criterion v-optimal needs a target, token blocks of the intended use, and no other "
            "criterion takes one; give both --criterion v-optimal and --target, or neither"
        )
    try:
        return SelectionConfig.model_validate(run.settings)
    except ValidationError as error:
        faults = [": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors()]
        raise InputError(f"the selection's settings are wrong: {'; '.join(faults)}") from error


def _read(files: Sequence[Path], settings: SelectionConfig) -> TokenBlocks:
    pieces = [read_blocks(file) for file in files]
    if settings.criterion == "fisher-weighted":
        pieces = [piece.weighted(read_weights(file)) for piece, file in zip(pieces, files, strict=True)]
    return TokenBlocks.concatenate(pieces)


def _stored(files: Sequence[Path], memory: str, settings: SelectionConfig) -> Blocks:
    if re.fullmatch(MEMORY_PATTERN, memory) is None:
        raise InputError(f"--memory {memory}: expected bytes, or a number with K, M, G or T behind it, such as 4G")
    return stored_pool([blocks_file(file) for file in files], bytes_of(memory), settings.criterion)


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InputError(f"{option} {text}: expected block numbers with commas between, such as 3,17") from error
