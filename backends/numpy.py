"""The NumPy backend: eager, with its times made by NumPy itself."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np

from janode.core.protocols import Array

from .eager import EagerBackend


class NumpyBackend(EagerBackend):
    """Differs from the generic backend in speed only."""

    def time(self, t: float, like: Array) -> Array:
        """t as a 0-d array, without the checks of the compatibility layer: 0.2 us where they take 3."""
        return np.asarray(t, dtype=like.real.dtype)


BACKEND = NumpyBackend(xp, "numpy")
