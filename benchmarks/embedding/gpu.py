"""Extraction on one GPU with random weights of real shapes, in bfloat16: tokens a second and the share of its rate.

    python -m benchmarks.embedding.gpu                        # 135M, 1B and 7B
    python -m benchmarks.embedding.gpu --shapes 135M          # one of them

Needs torch, transformers and numpy and the project's folder, nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import random
import time

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.selection.gpu import matmul_tflops
from fishersft.models.embedding import embed
from fishersft.models.tokenising import Tokenised

SHAPES = {  # as of SmolLM2-135M, Llama 3.2 1B and Llama 2 7B
    "135M": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    },
    "1B": {
        "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "vocab_size": 128256,
    },
    "7B": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000,
    },
}  # fmt: skip
_SECONDS = 30.0  # about, for each shape


def main() -> None:
    """Print a line for every shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--mean-tokens", type=float, default=200.0, help="a sentence; lengths are log-normal")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    limit = matmul_tflops()
    print(f"{torch.cuda.get_device_name()}, {datetime.date.today()}, torch {torch.__version__}, {limit:,.0f} TFLOP/s")
    for shape in arguments.shapes:
        print(_line(shape, arguments.mean_tokens, limit))


def _line(shape: str, mean_tokens: float, limit: float) -> str:
    config = LlamaConfig(**SHAPES[shape], max_position_embeddings=2048, tie_word_embeddings=True)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config).eval()
    torch.set_default_dtype(torch.float32)
    active = sum(p.numel() for p in model.base_model.parameters()) - config.vocab_size * config.hidden_size
    sentences = _sentences(2000, mean_tokens)
    started = time.perf_counter()
    _embedded(model, sentences)
    number = int(len(sentences) * max(1.0, _SECONDS / (time.perf_counter() - started)))
    sentences = _sentences(number, mean_tokens)
    torch.cuda.synchronize()
    started = time.perf_counter()
    tokens = _embedded(model, sentences)
    seconds = time.perf_counter() - started
    rate = tokens / seconds
    tflops = 2 * active * rate / 1e12
    return (
        f"{shape}: {tokens:,} tokens of {number:,} sentences in {seconds:.1f} s, {rate:,.0f} tokens/s, "
        f"{tflops:,.0f} TFLOP/s, {tflops / limit:.0%} of a bfloat16 matrix product's"
    )


def _embedded(model: torch.nn.Module, sentences: list[Tokenised]) -> int:
    for _ in embed(model, sentences):  # type: ignore[arg-type]
        pass
    return sum(len(sentence.input_ids) for sentence in sentences)


def _sentences(number: int, mean_tokens: float) -> list[Tokenised]:
    draw = random.Random(0)
    lengths = [min(2048, max(2, round(draw.lognormvariate(0, 0.8) * mean_tokens / 1.377))) for _ in range(number)]
    return [
        Tokenised([draw.randrange(1000) for _ in range(length)], [False] + [True] * (length - 1), truncated=False)
        for length in lengths
    ]


if __name__ == "__main__":
    main()
