"""The arguments of `selection.select`: their kinds, their checks, and what they stand for."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Literal, cast, get_args

import numpy as np
import torch

from fishersft.errors import InputError
from fishersft.numerics.blocks import Blocks, TokenBlocks
from fishersft.numerics.certify import CertificateMethod
from fishersft.numerics.greedy import BudgetUnit, Conditions
from fishersft.numerics.projection import principal_basis
from fishersft.numerics.twins import fingerprints
from fishersft.numerics.v_optimal import second_moment

Algorithm = Literal["lazy", "paper", "naive"]
Criterion = Literal["information", "v-optimal"]
BlocksLike = Blocks | Sequence[np.ndarray | torch.Tensor | list[list[float]]]


def as_blocks(blocks: BlocksLike) -> Blocks:
    """Blocks as they are, or a sequence of arrays stacked."""
    if hasattr(blocks, "rows_of"):
        return cast(Blocks, blocks)
    return TokenBlocks.from_sequence(cast(Sequence[np.ndarray], blocks))


def check_arguments(
    budget: int,
    budget_unit: BudgetUnit,
    algorithm: Algorithm,
    criterion: Criterion,
    certificate: CertificateMethod,
    stop_below: float,
    seed: int,
    certificate_seconds: float = 0.0,
) -> None:
    """InputError that names the argument, what it must be and what came."""
    if isinstance(budget, bool) or not isinstance(budget, numbers.Integral) or budget < 1:
        raise InputError(f"budget must be a whole number of at least 1, not {budget!r}")
    for name, value, known in (
        ("budget_unit", budget_unit, BudgetUnit),
        ("algorithm", algorithm, Algorithm),
        ("criterion", criterion, Criterion),
        ("certificate", certificate, CertificateMethod),
    ):
        if value not in get_args(known):
            raise InputError(f"{name} must be one of {', '.join(get_args(known))}, not {value!r}")
    if not isinstance(stop_below, numbers.Real) or isinstance(stop_below, bool) or not stop_below >= 0:
        raise InputError(f"stop_below must be a number of nats of at least 0, not {stop_below!r}")
    if not isinstance(certificate_seconds, numbers.Real) or not certificate_seconds >= 0:
        raise InputError(f"certificate_seconds must be a number of seconds of at least 0, not {certificate_seconds!r}")
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise InputError(f"seed must be a whole number, not {seed!r}")


def checked_gains(gains: np.ndarray, blocks: int) -> np.ndarray:
    """Bounds on gains as float64; InputError where they are not one number of nats a block."""
    found = np.asarray(gains)
    if found.shape != (blocks,) or found.dtype.kind not in "fiu" or not (found >= 0).all():
        raise InputError(f"first_gains must be {blocks} numbers of at least 0, not {found.dtype} of {found.shape}")
    return found.astype(np.float64)


def target_moment(
    criterion: Criterion,
    algorithm: Algorithm,
    certificate: CertificateMethod,
    target: BlocksLike | None,
    dim: int,
    regularization: float,
) -> torch.Tensor | None:
    """M / lambda for the V-optimal criterion, None for the other."""
    if criterion == "information":
        if target is not None:
            raise InputError('a target is for criterion "v-optimal" only; choose that, or leave the target out')
        return None
    if target is None:
        raise InputError('criterion "v-optimal" needs a target: token blocks of what the model will be used on')
    if algorithm == "paper":
        raise InputError('criterion "v-optimal" has the algorithms lazy and naive; "paper" needs submodularity')
    if certificate != "prefix":
        raise InputError('criterion "v-optimal" has no certificate, so certificate "frank-wolfe" has no meaning')
    blocks = as_blocks(target)
    if blocks.dim != dim:
        raise InputError(
            f"the target has dim {blocks.dim}, the pool has {dim}; were both embedded with the same model?"
        )
    return second_moment(blocks, regularization)


def principal_directions(pool: Blocks, dims: int, criterion: Criterion, cholesky: torch.Tensor | None) -> torch.Tensor:
    """The principal directions to choose in, (dim, dims)."""
    if criterion != "information" or cholesky is not None:
        raise InputError(
            "project_to is for the information criterion without earlier information: only there is its loss bounded; "
            "leave out project_to, or target, already_selected and initial_information"
        )
    return principal_basis(pool, dims)


def problem(
    blocks: Blocks,
    settings: tuple[object, ...],
    cholesky: torch.Tensor | None,
    moment: torch.Tensor | None,
    conditions: Conditions,
) -> list[bytes]:
    """What determines the picks, as bytes."""
    sets = [np.unique(np.asarray(given, dtype=np.int64)) for given in (conditions.include, conditions.exclude)]
    groups = [] if conditions.groups is None else list(conditions.groups)
    quotas = sorted(map(repr, conditions.quotas.items()))
    matrices = [b"" if matrix is None else matrix.cpu().numpy().tobytes() for matrix in (cholesky, moment)]
    plain = repr((settings, conditions.stop_below, groups, quotas)).encode()
    return [fingerprints(blocks).tobytes(), plain, *(part.tobytes() for part in sets), *matrices]
