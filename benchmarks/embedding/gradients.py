"""What gradients cost beside embeddings: python -m benchmarks.embedding.gradients (some minutes, on one core).

Shakespeare's speeches of at most 64 tokens through SmolLM2-135M in float32, in turns: embeddings alone, embeddings with
the last layer's gradient sketches, and the gradient sketches of all layers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer

from benchmarks.embedding.texts import speeches
from fishersft.config import ModelConfig
from fishersft.data.examples import TextExample
from fishersft.data.store import Store
from fishersft.models.embedding import embed
from fishersft.models.layer_gradients import layer_gradients
from fishersft.models.loading import load_model, load_tokenizer
from fishersft.models.tokenising import Tokeniser
from fishersft.steps.models import prepare_model

_ROUNDS = 3


def main(sentences: int = 60, store: Annotated[str, typer.Option(help="Has the model.")] = "build/bench-store") -> None:
    """Print the table as Markdown: the best of three rounds."""
    torch.set_num_threads(1)  # so that processor seconds say what the work takes, however busy the machine is
    folder = prepare_model(Store(store), ModelConfig()).folder
    model, tokeniser = load_model(folder, "float32", torch.device("cpu")), Tokeniser(load_tokenizer(folder), 64)
    batch = [tokeniser(TextExample(text)) for text in speeches(sentences)]
    jobs: dict[str, Callable[[], object]] = {
        "embeddings": lambda: list(embed(model, batch)),
        "embeddings, with the last layer's gradients": lambda: list(
            embed(model, batch, with_scores=True, with_gradients=True)
        ),
        "gradients of all layers": lambda: layer_gradients(model, batch),
    }
    for job in jobs.values():  # once for nothing
        job()
    rounds = [{name: _seconds(job) for name, job in jobs.items()} for _ in range(_ROUNDS)]
    best = {name: (min(turn[name][0] for turn in rounds), min(turn[name][1] for turn in rounds)) for name in jobs}
    alone = best["embeddings"]
    print(f"{sentences} speeches, {sum(sentence.loss_tokens for sentence in batch):,} loss tokens.\n")
    print("| | seconds | processor seconds | of embeddings alone |\n| --- | ---: | ---: | ---: |")
    for name, (wall, processor) in best.items():
        print(f"| {name} | {wall:.1f} | {processor:.1f} | {processor / alone[1]:.1f} |")


def _seconds(job: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    job()
    return time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    typer.run(main)
