"""What is kept of the blocks that were looked at lately, within a memory that is given."""

from __future__ import annotations

import numpy as np
import torch

_BYTES = 4  # of a value


class RootCache:
    """R^-1 of blocks, R R^T = I + K: slots of equal size for those of one width; who was of use longest ago makes room.

    Args:
        widths: (n,), int64; the padded number of tokens of each block.
        device: where R^-1 is kept, in float32.
        memory: bytes, at most; infinite where nothing bounds it.

    Attributes:
        slots: (n,), int64; where a block's R^-1 is among those of its width; -1: nowhere.
    """

    def __init__(self, widths: np.ndarray, device: torch.device, memory: float) -> None:
        self.slots = np.full(len(widths), -1, dtype=np.int64)
        self._widths = widths
        self._device = device
        self._memory_left = memory
        self._roots: dict[int, torch.Tensor] = {}
        self._owners: dict[int, np.ndarray] = {}  # -1: free

    def reserve(self, members: np.ndarray, used_at: np.ndarray) -> None:
        """Give these blocks slots, as far as there is memory.

        Args:
            members: (m,), int64, different blocks.
            used_at: (n,), int64; when each block's R^-1 was last of use.
        """
        for width in np.unique(self._widths[members]).tolist():
            alike = members[self._widths[members] == width]
            new = alike[self.slots[alike] < 0]
            if width not in self._roots:
                self._roots[width] = torch.empty(0, width, width, device=self._device)
                self._owners[width] = np.empty(0, dtype=np.int64)
            lacking = len(new) - int(np.count_nonzero(self._owners[width] < 0))
            lacking -= self._grow(width, lacking)
            if lacking > 0:
                self._take_over(width, lacking, alike, used_at)
            owners = self._owners[width]
            slots = np.flatnonzero(owners < 0)[: len(new)]
            owners[slots] = new[: len(slots)]
            self.slots[owners[slots]] = slots

    def read(self, members: np.ndarray) -> torch.Tensor:
        """(blocks, width, width), a copy, of blocks of one width that have a slot."""
        return self._roots[int(self._widths[members[0]])][self._at(members)]

    def write(self, members: np.ndarray, roots: torch.Tensor) -> None:
        """Keep R^-1 of blocks of one width that have a slot; several threads may write at once."""
        self._roots[int(self._widths[members[0]])][self._at(members)] = roots

    def _grow(self, width: int, lacking: int) -> int:
        """Add slots, more than are lacking, so that it happens seldom; gives how many."""
        roots = self._roots[width]
        room = min(self._memory_left // (_BYTES * width**2), len(self.slots) - len(roots))
        added = int(min(max(lacking, len(roots) // 4), room)) if lacking > 0 else 0
        if added:
            self._memory_left -= added * _BYTES * width**2
            self._roots[width] = torch.cat([roots, roots.new_zeros(added, width, width)])
            self._owners[width] = np.concatenate([self._owners[width], np.full(added, -1)])
        return added

    def _take_over(self, width: int, lacking: int, wanted: np.ndarray, used_at: np.ndarray) -> None:
        """Free the slots of blocks that were of use longest ago, but not of those that are wanted now."""
        owners = self._owners[width]
        held = np.flatnonzero((owners >= 0) & ~np.isin(owners, wanted))
        oldest = held[np.argsort(used_at[owners[held]], kind="stable")[:lacking]]
        self.slots[owners[oldest]] = -1
        owners[oldest] = -1

    def _at(self, members: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.slots[members]).to(self._device)
