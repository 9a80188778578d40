"""The CuPy backend. Importing it needs CuPy, using it a CUDA device.

Every array comes from CuPy's own memory pool, and none is read by the host but where the core asks for a number.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import array_api_compat.cupy as xp
import cupy

from janode.core.protocols import Array, State

from .eager import EagerBackend


class CupyBackend(EagerBackend):
    """Differs from the generic backend in speed, and in what it knows about the device."""

    def linear_combination(
        self, base: State | None, scale: float, coefficients: Sequence[float], terms: Sequence[State]
    ) -> State:
        """base + scale * sum_j c_j terms_j, one kernel for each leaf; those of several dtypes or in halves as usual."""
        if len(terms) == 1:
            scale, coefficients = 1.0, (scale * coefficients[0],)
        leaves = []
        for place in range(len(terms[0])):
            parts = [term[place] for term in terms]
            arrays = parts if base is None else [base[place], *parts]
            dtype = arrays[0].dtype
            if dtype.itemsize > 2 and all(array.dtype == dtype for array in arrays):
                leaves.append(_fused(str(dtype), len(parts), base is not None)(*arrays, *coefficients, scale))
            else:
                start = None if base is None else (base[place],)
                leaves.append(super().linear_combination(start, scale, coefficients, [(part,) for part in parts])[0])
        return tuple(leaves)

    def meter(self) -> Any:
        """What the memory pool gives out."""
        return PoolMeter()

    def free_memory(self, like: Array) -> int | None:
        """What the driver has free, and what the memory pool keeps of it unused."""
        with like.device:
            return int(cupy.cuda.runtime.memGetInfo()[0]) + cupy.get_default_memory_pool().free_bytes()


class PoolMeter(cupy.cuda.MemoryHook):  # type: ignore[misc]
    """Counts what the memory pool gives out and gets back."""

    name = "janode"

    def __enter__(self) -> Any:
        self.restart()
        super().__enter__()
        return self

    def restart(self) -> None:
        """Count from here."""
        self.now = self.peak = 0

    def malloc_postprocess(self, *, mem_size: int, **others: Any) -> None:
        """An array more."""
        self.now += mem_size
        self.peak = max(self.peak, self.now)

    def free_postprocess(self, *, mem_size: int, **others: Any) -> None:
        """An array less."""
        self.now -= mem_size


@functools.cache
def _fused(dtype: str, num_terms: int, has_base: bool) -> Any:
    """The kernel of (base, terms, coefficients, scale), numbers in the real dtype of the arrays' precision."""
    real = {"complex64": "float32", "complex128": "float64"}.get(dtype, dtype)
    places = range(num_terms)
    arrays = [f"{dtype} base"] * has_base + [f"{dtype} k{j}" for j in places]
    numbers = [f"{real} c{j}" for j in places] + [f"{real} scale"]
    total = f"scale * ({' + '.join(f'c{j} * k{j}' for j in places)})"
    operation = f"out = base + {total}" if has_base else f"out = {total}"
    return cupy.ElementwiseKernel(", ".join(arrays + numbers), f"{dtype} out", operation, "janode_linear_combination")


BACKEND = CupyBackend(xp, "cupy")
