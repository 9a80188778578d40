"""The NumPy backend."""

from __future__ import annotations

import array_api_compat.numpy as xp

from .eager import EagerBackend

BACKEND = EagerBackend(xp, "numpy")
