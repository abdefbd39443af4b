"""What the processes of a `torch.distributed` group tell each other: plain numbers and token blocks, no pickle."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist

from fishersft.errors import InputError


class Ranks:
    """The processes of a group; every method is called by all of them, in the same order.

    Args:
        group: None: all processes.
        device: of this process's computations; what is sent goes through it with NCCL, and through the CPU else.

    Raises:
        InputError: there is no process group, or it is NCCL's and the device no GPU.

    Attributes:
        rank, size: of this process in the group, and of the group.
    """

    def __init__(self, group: dist.ProcessGroup | None, device: torch.device) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise InputError(
                "there is no process group; call torch.distributed.init_process_group in each process first"
            )
        nccl = dist.get_backend(group) == "nccl"
        if nccl and device.type != "cuda":
            raise InputError(f"the process group's backend is NCCL, which needs a GPU; the device is {device}")
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._group = group
        self._device = device if nccl else torch.device("cpu")

    def gather(self, values: np.ndarray) -> np.ndarray:
        """(size, k) of every rank's (k,), int64 or float64."""
        own = torch.from_numpy(values).to(self._device)
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own, group=self._group)
        return torch.stack(parts).cpu().numpy()

    def concatenate(self, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """(sum of counts,), every rank's values one after another; `counts` says how many each has."""
        padded = np.zeros(int(counts.max()), dtype=values.dtype)
        padded[: len(values)] = values
        return np.concatenate([part[:count] for part, count in zip(self.gather(padded), counts, strict=True)])

    def block_of(
        self, owner: int, block: torch.Tensor | None, shape: tuple[int, int], dtype: torch.dtype
    ) -> torch.Tensor:
        """The owner's token block, on every rank; others give None and know its shape and dtype."""
        if block is None:
            block = torch.empty(shape, dtype=dtype)
        content = block.to(self._device, dtype).contiguous()
        # as bytes: not every backend takes every dtype
        dist.broadcast(content.view(torch.uint8), group_src=owner, group=self._group)
        return content
