"""Where to compute: a device by its name, or the best there is."""

from __future__ import annotations

import torch

from fishersft.errors import InputError


def resolve_device(device: torch.device | str | None) -> torch.device:
    """The device of that name; for None a GPU if there is one, else the CPU.

    Raises:
        InputError: the name is not a device, or the device is not there.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"there is no device {device!r}; use cpu, cuda or cuda:N") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {device}; torch sees {torch.cuda.device_count()} GPUs")
    return chosen
