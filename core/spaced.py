"""Grids with a spacing of their own, which need not meet the save times, and the states between two grid points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def spaced(length: float, step_size: float) -> list[float]:
    """The offsets 0, h, 2 h, .. below ``length``, where the last step may be shorter; both signs run alike.

    Rounding in the given numbers adds no step: the last one may be longer by one part in 1e9.
    """
    h = math.copysign(step_size, length)
    return [i * h for i in range(max(1, math.ceil(length / h * (1 - 1e-9))))]


def bracket(grid: Sequence[float], t: float) -> int:
    """The place k of the grid point at or before t, with t in (grid[k], grid[k + 1]] unless it is the first point."""
    is_rising = grid[-1] > grid[0]
    low, high = 0, len(grid) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if grid[middle] < t if is_rising else grid[middle] > t:
            low = middle
        else:
            high = middle
    return low


def linear(x: Any, y: Any, y_next: Any) -> Any:
    """The line from y at x = 0 to y_next at x = 1."""
    return y + x * (y_next - y)


def cubic(x: Any, h: Any, y: Any, f: Any, y_next: Any, f_next: Any) -> Any:
    """Hermite's cubic through y with slope f at x = 0 and y_next with slope f_next at x = 1, a step h apart."""
    change = y_next - y
    bend, bend_next = h * f - change, change - h * f_next
    return y + x * (change + (1 - x) * ((1 - x) * bend + x * bend_next))
