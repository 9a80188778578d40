"""Controls as functions of time: the smooth ones nearest to any given, to start from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from array_api_compat import device

from .controls import check_length
from .corrections import trapezoid_weights
from .errors import InputError
from .protocols import State
from .stencils import widened


def smooth(xp: Any, leaves: State, paths: Sequence[str], times: Sequence[float], degree: int) -> State:
    """The nearest polynomials of that degree in time; what ``smooth_controls`` is on leaves."""
    check_length("smooth_controls", leaves, paths, times)
    if isinstance(degree, bool) or not isinstance(degree, int) or not 0 <= degree < len(times):
        raise InputError(
            f"smooth_controls: degree must be an integer from 0 to {len(times) - 1}, less than the number of times; "
            f"got {degree!r}. Choose a small one, such as 3."
        )
    weights = [abs(weight) for weight in trapezoid_weights(times)] if len(times) > 1 else [1.0]
    rows = _polynomials(times, weights, degree)
    weighted = [[weight * value for weight, value in zip(weights, row, strict=True)] for row in rows]
    made = []
    for leaf in leaves:
        wide = widened(xp, leaf)
        values, products = (xp.asarray(part, dtype=wide.dtype, device=device(leaf)) for part in (rows, weighted))
        coefficients = xp.matmul(products, xp.reshape(wide, (len(times), -1)))
        nearest = xp.matmul(xp.matrix_transpose(values), coefficients)
        made.append(xp.astype(xp.reshape(nearest, leaf.shape), leaf.dtype, copy=False))
    return tuple(made)


def _polynomials(times: Sequence[float], weights: Sequence[float], degree: int) -> list[list[float]]:
    """The values at these times of polynomials of degree 0, 1, ..., orthonormal with these weights."""

    def inner(left: Sequence[float], right: Sequence[float]) -> float:
        return math.fsum(w * a * b for w, a, b in zip(weights, left, right, strict=True))

    middle, half = (times[0] + times[-1]) / 2, abs(times[-1] - times[0]) / 2
    rows: list[list[float]] = []
    for k in range(degree + 1):
        row = [1.0] * len(times)
        if k:
            row = [(t - middle) / half * value for t, value in zip(times, rows[-1], strict=True)]
        for other in rows + rows:  # once more for the rounding errors of the first time
            product = inner(row, other)
            row = [a - product * b for a, b in zip(row, other, strict=True)]
        size = math.sqrt(inner(row, row))
        rows.append([a / size for a in row])
    return rows
