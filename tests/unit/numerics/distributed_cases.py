"""Cases for `select_distributed`, made alike in every process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass
class Case:
    """Blocks, how they are shared out among 1, 2 and 4 processes, and the arguments."""

    blocks: list[np.ndarray]
    arguments: dict[str, Any]
    dtype: torch.dtype = torch.float64
    cuts: dict[int, list[int]] = field(default_factory=dict)

    def part(self, rank: int, size: int) -> list[torch.Tensor]:
        """The blocks of one process."""
        even = [round(k * len(self.blocks) / size) for k in range(size + 1)]
        cuts = self.cuts.get(size, even)
        return self.tensors()[cuts[rank] : cuts[rank + 1]]

    def tensors(self) -> list[torch.Tensor]:
        """All blocks, in the case's dtype."""
        return [torch.from_numpy(block).to(self.dtype) for block in self.blocks]


def random_blocks(n: int, dim: int, longest: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rng.integers(1, longest + 1), dim)) for _ in range(n)]


def cases() -> dict[str, Case]:
    many = random_blocks(60, 6, 7, seed=0)
    repeated = random_blocks(7, 4, 3, seed=1) * 4
    with_empty = [block[: 0 if i % 5 == 0 else None] for i, block in enumerate(random_blocks(30, 5, 4, seed=2))]
    groups = [("prose", "verse", "list")[i % 3] for i in range(60)]
    return {
        "sentences": Case(many, {"budget": 20, "regularization": 0.3}),
        "single vectors": Case(random_blocks(90, 5, 1, seed=3), {"budget": 30}),
        "the same blocks in every process": Case(repeated, {"budget": 28}),
        "token budget": Case(many, {"budget": 41, "budget_unit": "tokens"}),
        "token budget under every block": Case([np.ones((3, 2))] * 4, {"budget": 2, "budget_unit": "tokens"}),
        "more budget than blocks": Case(with_empty, {"budget": 99}),
        "a process without blocks": Case(many, {"budget": 15}, cuts={2: [0, 0, 60], 4: [0, 20, 20, 60, 60]}),
        "fewer blocks than processes": Case(many[:3], {"budget": 2}),
        "bfloat16": Case(many, {"budget": 15}, dtype=torch.bfloat16),
        "conditions": Case(
            many,
            {
                "budget": 18,
                "include": [44, 3],
                "exclude": [7, 59],
                "groups": groups,
                "quotas": {"verse": 4},
                "already_selected": random_blocks(3, 6, 2, seed=4),
            },
        ),
        "a threshold": Case(many, {"budget": 60, "stop_below": 1.5}),
    }
