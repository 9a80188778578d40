"""The CuPy backend. Importing it needs CuPy, using it a CUDA device."""

from __future__ import annotations

import array_api_compat.cupy as xp

from .eager import EagerBackend

BACKEND = EagerBackend(xp, "cupy")
