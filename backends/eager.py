"""The backend for any eager library that speaks the Array API: loops are Python loops, buffers are lists of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import array_api_compat

from janode.core.loops import Loops
from janode.core.protocols import Array, Cotangent, State

from .host_memory import HostMeter, free_host_memory


class EagerBackend(Loops):
    """NumPy, CuPy, array-api-strict and their like; the base of other eager backends."""

    def __init__(self, xp: Any, name: str) -> None:
        self.xp = xp
        self.name = name

    def scalar(self, value: Array) -> Any:
        """A Python float."""
        return float(value)

    def num_entries(self, state: State) -> int:
        """The number of entries of all leaves."""
        return sum(math.prod(leaf.shape) for leaf in state)

    def stack(self, buffer: Any) -> State:
        """Every leaf stacked along a new leading axis."""
        return tuple(self.xp.stack(list(leaves)) for leaves in zip(*buffer, strict=True))

    def unstack(self, states: State) -> Any:
        """Every leaf cut along its leading axis."""
        return [tuple(leaf[i, ...] for leaf in states) for i in range(states[0].shape[0])]

    def linear_combination(
        self, base: State | None, scale: float, coefficients: Sequence[float], terms: Sequence[State]
    ) -> State:
        """base + scale * sum_j c_j terms_j; half precision is summed in single precision."""
        if len(terms) == 1:
            scale, coefficients = scale * coefficients[0], (1.0,)
        leaves = []
        for place, first in enumerate(terms[0]):
            parts = [term[place] for term in terms]
            start = None if base is None else base[place]
            like = first if start is None else start
            if _is_half(like) or any(map(_is_half, parts)):
                start = None if start is None else self._widened(start)
                total = _sum(start, scale, coefficients, [self._widened(part) for part in parts])
                leaves.append(self.xp.astype(total, like.dtype) if _is_half(like) else total)
            else:
                leaves.append(_sum(start, scale, coefficients, parts))
        return tuple(leaves)

    def accumulate(self, total: State, addends: Cotangent) -> State:
        """A new total."""
        return tuple(
            old if new is None else old + (new if new.dtype == old.dtype else self.xp.astype(new, old.dtype))
            for old, new in zip(total, addends, strict=True)
        )

    def zeros(self, like: State, wide: bool = False) -> State:
        """Zeros, if wide of at least single precision."""
        return tuple(self.xp.zeros_like(self._widened(leaf) if wide else leaf) for leaf in like)

    def time(self, t: float, like: Array) -> Array:
        """t as a 0-d array."""
        return self.xp.full((), t, dtype=real_dtype(self.xp, like.dtype), device=array_api_compat.device(like))

    def pair(self, left: State, right: State) -> Array:
        """Re sum conj(left) right: a gradient is dL/dx + i dL/dy here."""
        xp = self.xp
        products = [self._pair_leaf(xp, a, b) for a, b in zip(left, right, strict=True)]
        total = products[0]
        for product in products[1:]:
            total = total + product
        return total

    def _pair_leaf(self, xp: Any, left: Array, right: Array) -> Array:
        if xp.isdtype(left.dtype, "complex floating"):
            return xp.sum(xp.real(left) * xp.real(right)) + xp.sum(xp.imag(left) * xp.imag(right))
        return xp.sum(self._widened(left) * self._widened(right))

    def free_memory(self, like: Array) -> int | None:
        """That of the host."""
        return free_host_memory()

    def meter(self) -> Any:
        """What libraries tell Python that they hold, as NumPy does."""
        return HostMeter()

    def all_finite(self, states: State) -> Any:
        """Reads one truth value per leaf."""
        return all(bool(self.xp.all(self.xp.isfinite(leaf))) for leaf in states)

    def _widened(self, leaf: Array) -> Array:
        return self.xp.astype(leaf, self.xp.float32) if _is_half(leaf) else leaf


def _is_half(leaf: Array) -> bool:
    return getattr(leaf.dtype, "itemsize", None) == 2


def _sum(base: Array | None, scale: float, coefficients: Sequence[float], parts: Sequence[Array]) -> Array:
    total = _scaled(parts[0], coefficients[0])
    for i in range(1, len(parts)):
        total = total + coefficients[i] * parts[i]
    total = _scaled(total, scale)
    return total if base is None else base + total


def _scaled(leaf: Array, factor: float | Array) -> Array:
    return leaf if isinstance(factor, float) and factor == 1.0 else factor * leaf


def real_dtype(xp: Any, dtype: Any) -> Any:
    """The real dtype of the same precision."""
    if not xp.isdtype(dtype, "complex floating"):
        return dtype
    return xp.float32 if dtype == xp.complex64 else xp.float64
