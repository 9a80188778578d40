"""An explicit Runge-Kutta solve and its derivatives by the book, in NumPy: the suite's second opinion on the core.

It shares nothing with the solver but the tableaus. Everything may be complex, times too, so a derivative along a
direction v is Im F(x + i h v) / h, exact to rounding for any tiny h (Squire and Trapp 1998,
doi:10.1137/S003614459631241X).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import optree

from janode.core.tableaus import Tableau

Tree = Any
_TINY = 1e-30
_CENTRAL = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
_SPACING = 0.01
CENTRAL_LOSS = 32.0
"""By how much rounding errors grow in the central differences: a loss of the size of its derivative, over _SPACING."""


def integrate(
    value: Callable[..., Tree], y0: Tree, ts: Sequence[Any], params: Tree, tableau: Tableau, steps: int
) -> Tree:
    """The states at all ts, with ``steps`` equal steps between neighbouring times; every stage is evaluated."""
    leaves, spec = optree.tree_flatten(y0)
    a, b, c = tableau.floats.a, tableau.floats.b, tableau.floats.c
    y, rows = leaves, [leaves]
    for start, end in pairwise(ts):
        h = (end - start) / steps
        for i in range(steps):
            k: list[list[Any]] = []
            for row, node in zip(a, c, strict=True):
                slopes = value(start + (i + node) * h, spec.unflatten(_moved(y, h, row, k)), params)
                k.append(optree.tree_leaves(slopes))
            y = _moved(y, h, b, k)
        rows.append(y)
    return spec.unflatten([np.stack(leaf) for leaf in zip(*rows, strict=True)])


def _moved(y: Sequence[Any], h: Any, weights: Sequence[float], k: Sequence[Sequence[Any]]) -> list[Any]:
    """y + h sum_j weights_j k_j, leaf by leaf."""
    leaves = []
    for leaf, *slopes in zip(y, *k, strict=True):
        for weight, slope in zip(weights, slopes, strict=True):
            leaf = leaf + h * weight * slope
        leaves.append(leaf)
    return leaves


def derivative(function: Callable[[Any], Any], is_analytic: bool) -> float:
    """The derivative of a real function of one number at 0.

    By a complex step if the function is analytic; else by central differences of order 8, good to CENTRAL_LOSS
    rounding errors for functions that change slowly over ``_SPACING``.
    """
    if is_analytic:
        return float(np.imag(function(1j * _TINY))) / _TINY
    return sum(w * (function(j * _SPACING) - function(-j * _SPACING)) for j, w in _CENTRAL) / _SPACING
