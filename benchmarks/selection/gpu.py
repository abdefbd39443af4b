"""Selection from a million synthetic sentences in bfloat16 on one GPU.

    python -m benchmarks.selection.gpu                                  # 35 GB of embeddings, made on the GPU
    python -m benchmarks.selection.gpu --sentences 100000 --picks 1000

Needs torch, numpy and scipy and the project's folder, nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import time
from dataclasses import replace

import torch

from benchmarks.selection.measure import Measured, measure
from benchmarks.selection.pools import first_blocks, synthetic_blocks
from fishersft.numerics import select

DIM, MEAN_TOKENS = 576, 30.0
_MATMUL_SIDE, _MATMULS = 8192, 20


def select_on_gpu(sentences: int, picks: int) -> Measured:
    """One selection, lambda 1, from bfloat16 blocks of about 30 tokens and dim 576 that lie on the GPU.

    Facts: gpu (its name), tokens, evaluations, gpu_memory (bytes at the peak, data included), tflops (evaluations times
    tokens a sentence times dim^2, which is what whitening a block costs, over the seconds: 1e12 a second) and
    limit_tflops (what a large bfloat16 matrix product reaches on this GPU).
    """
    blocks = synthetic_blocks(sentences, DIM, MEAN_TOKENS, device="cuda", dtype=torch.bfloat16)
    limit = matmul_tflops()
    select(first_blocks(blocks, 64), 4, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    selection, measured = measure(lambda: select(blocks, picks, device="cuda"))
    tokens = len(blocks.values)
    facts = {
        "gpu": torch.cuda.get_device_name(),
        "tokens": tokens,
        "evaluations": selection.evaluations,
        "gpu_memory": torch.cuda.max_memory_allocated(),
        "tflops": selection.evaluations * (tokens / sentences) * DIM**2 / measured.seconds / 1e12,
        "limit_tflops": limit,
        "certificate": str(selection.certificate),
    }
    return replace(measured, picks=selection.indices.tolist(), facts=facts)


def matmul_tflops() -> float:
    """What a large bfloat16 matrix product reaches on this GPU, in 1e12 operations a second."""
    left = torch.randn(_MATMUL_SIDE, _MATMUL_SIDE, dtype=torch.bfloat16, device="cuda")
    product = left @ left
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(_MATMULS):
        torch.matmul(left, left, out=product)
    torch.cuda.synchronize()
    return _MATMULS * 2 * _MATMUL_SIDE**3 / (time.perf_counter() - started) / 1e12


def main() -> None:
    """Print one run's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=1_000_000)
    parser.add_argument("--picks", type=int, default=10_000)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here")
    run = select_on_gpu(arguments.sentences, arguments.picks)
    print(f"{run.facts['gpu']}, {datetime.date.today()}, torch {torch.__version__}")
    print(f"{arguments.sentences:,} sentences, {run.facts['tokens']:,} tokens, dim {DIM}, bfloat16")
    print(f"{len(run.picks):,} picks in {run.seconds:,.1f} s, {run.facts['evaluations']:,} evaluations")
    print(f"proven: {run.facts['certificate']}")
    print(
        f"{run.facts['tflops']:,.2f} TFLOP/s, {run.facts['tflops'] / run.facts['limit_tflops']:.1%} of the "
        f"{run.facts['limit_tflops']:,.0f} of a bfloat16 matrix product here; "
        f"peak GPU memory {run.facts['gpu_memory'] / 2**30:,.1f} GiB"
    )


if __name__ == "__main__":
    main()
