"""The leverages x_i^T A^-1 x_i of single vectors, as intervals that allow for rounding.

There are two ways to them: anew, as |L^-1 x_i|^2 (dim^2 a vector); or by catching up, less (x_i^T p)^2 for every
column p since they were up to date (2 dim a vector and column; see `state`). Both go over the vectors once, however
many columns there are, and reading the vectors is most of the cost.

Rounding. All is in float32. With k columns since l_i was computed anew (as l0_i) it errs by at most some eps times
u_i (3 + 2 sqrt(k) + k), u_i = |x_i| (sqrt(l0_i) + eps |x_i|). The products x_i^T p err by eps |x_i| each; as their
squares add up to l0_i at most, they themselves add up to sqrt(k l0_i), and what they err by to k eps |x_i|. The k sums
and subtractions, in whatever order, err by eps l0_i each, and l0_i is at most |x_i|^2. A solve with L may put a larger
norm in the place of |x_i|; see `looks`. Measured errors are well within the 4 times that which is allowed for.

The columns themselves are solutions with L in float64, and err by some |L| |L^-1| times its eps. As L^-1 has no
singular value above 1, that is |L| at most: where A is so ill-conditioned, it takes the place of float32's eps.
"""

from __future__ import annotations

import math
from copy import copy

import numpy as np
import torch

from fishersft.numerics.state import VectorState

_CHUNK_ELEMENTS = 1 << 21  # values of vectors worked on at a time: 8 MiB
_ANEW_AFTER = 4  # times dim columns: by then rounding has added up
_ALLOWED = 4 * torch.finfo(torch.float32).eps
_ALLOWED_OF_COLUMNS = 4 * torch.finfo(torch.float64).eps


class Leverages:
    """l_i = x_i^T A^-1 x_i of some vectors, as of the last `catch_up` or `start_anew`; they only fall after that.

    Args:
        vectors: (n, dim), float32; squares of their norms are finite. Not copied.
        state: the information matrix, shared with whoever adds to it.
        scale: what vectors are multiplied by before use: 1 / sqrt(lambda).

    Example:
        >>> state = VectorState(torch.eye(2, dtype=torch.float64), torch.device("cpu"))
        >>> leverages = Leverages(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), state, scale=1.0)
        >>> state.add(torch.tensor([[3.0, 0.0]], dtype=torch.float64))
        >>> leverages.catch_up()
        >>> leverages.upper()  # 9 / (1 + 9), and 1 as before
        array([0.9000..., 1.0000...], dtype=float32)
    """

    def __init__(self, vectors: torch.Tensor, state: VectorState, scale: float) -> None:
        self._vectors = vectors
        self._state = state
        self._scale = scale
        self._chunk = max(1, _CHUNK_ELEMENTS // vectors.shape[1])
        self._norms = torch.empty(len(vectors), device=vectors.device)
        for norms, part in zip(self._norms.split(self._chunk), vectors.split(self._chunk), strict=True):
            torch.linalg.vector_norm(part, dim=1, out=norms)
        self._norms *= scale
        self._values = self._norms.square()
        self.start_anew()

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def device(self) -> torch.device:
        """Of the vectors."""
        return self._vectors.device

    @property
    def are_current(self) -> bool:
        """Whether nothing was added since they were brought up to date."""
        return self._known_at == self._state.columns

    def subset(self, members: torch.Tensor) -> Leverages:
        """Those of some vectors, (m,) int64, as they are now; the vectors are copied."""
        part = copy(self)
        part._vectors = self._vectors.index_select(0, members)
        part._norms, part._units, part._values = (of[members] for of in (self._norms, self._units, self._values))
        return part

    def catch_up(self) -> None:
        """Bring all up to date, the cheaper way."""
        columns = self._state.columns - self._known_at
        if columns > self._state.window or self._columns_since_anew > _ANEW_AFTER * self._state.window:
            self.start_anew()
        elif columns:
            since = self._state.columns_since(self._known_at) * self._scale
            for start in range(0, len(self._vectors), self._chunk):
                changes = self._vectors[start : start + self._chunk] @ since
                self._values[start : start + self._chunk] -= torch.linalg.vecdot(changes, changes)
            self._known_at += columns
            self._columns_since_anew += columns
            self._eps = max(_ALLOWED, _ALLOWED_OF_COLUMNS * self._state.norm)

    def start_anew(self) -> None:
        """Bring all up to date, and clear the rounding that has added up."""
        self._known_at, self._columns_since_anew, self._eps = self._state.columns, 0, _ALLOWED
        if self._state.is_identity:
            torch.square(self._norms, out=self._values)
            self._units = self._values * (1 + _ALLOWED)
            return
        column_norms = self._state.column_norms(torch.float32)
        found, norms = [], []
        for part in self._vectors.split(self._chunk):
            whitened = self._state.whitened(part).mul_(self._scale)
            found.append(torch.linalg.vecdot(whitened, whitened))
            norms.append(torch.linalg.vector_norm(whitened.mul_(column_norms), dim=1))
        self._values = torch.cat(found)
        largest = torch.maximum(self._norms, torch.cat(norms))
        self._units = largest * (self._values.sqrt() + _ALLOWED * largest)

    def sharpen(self) -> bool:
        """Start anew, if that was not done lately; so often it costs a few times what catching up does."""
        if self._columns_since_anew <= self._state.window // 8:
            return False
        self.start_anew()
        return True

    def lower(self) -> np.ndarray:
        """(n,), float32; no leverage is less."""
        return torch.sub(self._values, self._units, alpha=self._rounding()).cpu().numpy()

    def upper(self) -> np.ndarray:
        """(n,), float32; no leverage is more, now or later."""
        return torch.add(self._values, self._units, alpha=self._rounding()).cpu().numpy()

    def _rounding(self) -> float:
        k = self._columns_since_anew
        return self._eps * (3 + 2 * math.sqrt(k) + k)
