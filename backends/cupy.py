"""The CuPy backend. Importing it needs CuPy, using it a CUDA device."""

from __future__ import annotations

import array_api_compat.cupy as xp
import cupy

from janode.core.protocols import Array

from .eager import EagerBackend


class CupyBackend(EagerBackend):
    """Differs from the generic backend in what it knows about the device."""

    def free_memory(self, like: Array) -> int | None:
        """What the driver has free, and what the memory pool keeps of it unused."""
        with like.device:
            return int(cupy.cuda.runtime.memGetInfo()[0]) + cupy.get_default_memory_pool().free_bytes()


BACKEND = CupyBackend(xp, "cupy")
