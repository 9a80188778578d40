"""Linear maps from rows to rows with a few terms each, and those that interpolate and reconstruct on a grid of times.

A map is made once, from Python numbers, and applied to arrays of any library. Every map here reads, for each target
time, the window of neighbouring rows whose middle is nearest to it; near the ends the window is one-sided, and beyond
them its polynomial is continued. Times increase or decrease, with any steps.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from array_api_compat import device

from .errors import InputError
from .protocols import Array, State

_EPS = 2.0**-52
# A target this near to a place where the window changes, in steps, lies on it.
_SNAP = 1e-9


@dataclass(frozen=True)
class Stencil:
    """The linear map out_m = sum_j weights[m][j] rows[indices[m][j]]; all m have equally many terms.

    Weights are dimensionless, or in units of 1 / time where the map divides by a step size.
    """

    indices: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @cached_property
    def num_rows(self) -> int:
        """The least number of rows that the map can be applied to."""
        return 1 + max(map(max, self.indices))

    @cached_property
    def longest_run(self) -> range:
        """The longest range of rows that are one row moved along: equal weights, each index one more than before."""
        best = range(0)
        start = 0
        for m in range(1, len(self.indices) + 1):
            if m < len(self.indices):
                is_moved = all(b == a + 1 for a, b in zip(self.indices[m - 1], self.indices[m], strict=True))
                if is_moved and all(
                    abs(a - b) <= 4 * _EPS * abs(a) for a, b in zip(self.weights[start], self.weights[m], strict=True)
                ):
                    continue
            best = max(best, range(start, m), key=len)
            start = m
        return best

    def scaled(self, factors: Sequence[float]) -> Stencil:
        """The map followed by a product: out_m becomes factors[m] out_m."""
        pairs = zip(factors, self.weights, strict=True)
        return Stencil(self.indices, tuple(tuple(factor * w for w in weights) for factor, weights in pairs))

    def reading(self, rows: Sequence[int]) -> Stencil:
        """The same map of other rows: it reads rows[j] where it read j."""
        return Stencil(tuple(tuple(rows[j] for j in indices) for indices in self.indices), self.weights)

    def of(self, other: Stencil) -> Stencil:
        """The map that follows another."""
        rows = []
        for indices, weights in zip(self.indices, self.weights, strict=True):
            total: dict[int, float] = {}
            for j, weight in zip(indices, weights, strict=True):
                for row, factor in zip(other.indices[j], other.weights[j], strict=True):
                    total[row] = total.get(row, 0.0) + weight * factor
            rows.append(total)
        return make_stencil(rows)


def make_stencil(rows: Iterable[Mapping[int, float]]) -> Stencil:
    """The map with these terms, one mapping {index: weight} for each row of the result."""
    terms = [tuple(row.items()) for row in rows]
    width = max(map(len, terms))
    filled = [term + ((term[0][0], 0.0),) * (width - len(term)) for term in terms]
    indices = tuple(tuple(index for index, _ in term) for term in filled)
    return Stencil(indices, tuple(tuple(float(weight) for _, weight in term) for term in filled))


def joined_stencils(stencils: Sequence[Stencil]) -> Stencil:
    """The map whose rows are those of one map after the other, all of the same rows."""
    if len(stencils) == 1:
        return stencils[0]
    width = max(len(stencil.indices[0]) for stencil in stencils)
    indices: list[tuple[int, ...]] = []
    weights: list[tuple[float, ...]] = []
    for stencil in stencils:
        more = width - len(stencil.indices[0])
        indices += [row + row[:1] * more for row in stencil.indices]
        weights += [row + (0.0,) * more for row in stencil.weights]
    return Stencil(tuple(indices), tuple(weights))


def apply_stencil(xp: Any, stencil: Stencil, rows: State) -> State:
    """Compute out_m = sum_j weights[m][j] rows[indices[m][j]] along the leading axis of every leaf.

    Args:
        xp: the Array API namespace of the rows.
        stencil: the map.
        rows: leaves of shape (R, ...), real or complex floating, R >= ``stencil.num_rows``.

    Returns:
        Leaves of shape (M, ...), of the dtype and on the device of ``rows``; half precision is summed in single.

    Raises:
        InputError: a leaf has too few rows.

    Cost: per term one gather, one product and one sum of M rows; no loop over rows. Autodiff follows it.

    Example:
        >>> import numpy as np
        >>> apply_stencil(np, Stencil(((0, 1), (1, 2)), ((0.5, 0.5), (0.5, 0.5))), (np.array([0.0, 2.0, 8.0]),))
        (array([1., 5.]),)
    """
    return tuple(_apply_to_leaf(xp, stencil, leaf) for leaf in rows)


def _apply_to_leaf(xp: Any, stencil: Stencil, leaf: Array) -> Array:
    if leaf.ndim == 0 or leaf.shape[0] < stencil.num_rows:
        raise InputError(
            f"apply_stencil: rows must have a leading axis of at least {stencil.num_rows}; got shape "
            f"{tuple(leaf.shape)}. Give the rows that the stencil was made for."
        )
    wide = widened(xp, leaf)
    run = stencil.longest_run
    if len(run) < 16:
        total = _gathered(xp, stencil, wide)
    else:
        edges = (
            Stencil(stencil.indices[rows], stencil.weights[rows]) for rows in (slice(run.start), slice(run.stop, None))
        )
        first, last = (([_gathered(xp, edge, wide)] if edge.indices else []) for edge in edges)
        total = xp.concat([*first, _slid(stencil, run, wide), *last])
    return xp.astype(total, leaf.dtype, copy=False)


def _slid(stencil: Stencil, run: range, wide: Array) -> Array:
    """The rows of a run: sums of slices, those of equal weights first. No gather, and few passes over large arrays."""
    terms: dict[float, list[int]] = {}
    pairs = list(zip(stencil.indices[run.start], stencil.weights[run.start], strict=True))
    for index, weight in [pair for pair in pairs if pair[1]] or pairs[:1]:
        terms.setdefault(weight, []).append(index)
    total = None
    for weight, indices in terms.items():
        part = wide[indices[0] : indices[0] + len(run), ...]
        for index in indices[1:]:
            part = part + wide[index : index + len(run), ...]
        part = weight * part
        total = part if total is None else total + part
    return total


def _gathered(xp: Any, stencil: Stencil, wide: Array) -> Array:
    """Any rows."""
    # Made in the dtype of the leaf: a complex leaf times a real array is no promotion that every library allows.
    weights = xp.asarray(list(zip(*stencil.weights, strict=True)), dtype=wide.dtype, device=device(wide))
    indices = xp.asarray(list(zip(*stencil.indices, strict=True)), device=device(wide))
    total = None
    for j in range(indices.shape[0]):
        term = xp.take(wide, indices[j, ...], axis=0)
        # In place, on arrays made here: memory for more large temporary arrays takes longer than the sums.
        term *= xp.reshape(weights[j, ...], (-1,) + (1,) * (wide.ndim - 1))
        if total is None:
            total = term
        else:
            total += term
    return total


def widened(xp: Any, leaf: Array) -> Array:
    """The leaf in at least single precision."""
    return xp.astype(leaf, xp.float32) if getattr(leaf.dtype, "itemsize", None) == 2 else leaf


def reconstruct(edges: Sequence[float], targets: Sequence[float], order: int) -> Stencil:
    """Map integrals over cells to point values: g(tau) = P'(tau), P the interpolant of the running sum at the edges.

    Args:
        edges: t_0 .. t_N, strictly increasing or decreasing; the N cells lie between them.
        targets: the times tau of the values, anywhere and in any order.
        order: r >= 1, the number of neighbouring cells that each value reads; r <= N.

    Returns:
        The map from N rows, the integral of g over each cell (for increments h_n S_n, S_n the cell average), to one
        row g(tau) for each target; exact for polynomials g of degree r - 1, error O(h^r) for smooth g.

    Raises:
        InputError: order is not an integer >= 1, there are fewer cells than that, or the edges are not monotonic.

    Cost: microseconds per target where windows repeat, tens of them where none does.

    Source: Shu 1998, doi 10.1007/BFb0096355, section 2.1.

    Example:
        >>> reconstruct([0.0, 1.0, 2.0, 3.0], [1.0], 3).weights
        ((0.333..., 0.833..., -0.166...),)
    """
    check_count("reconstruct", "order", order, 1)
    if len(edges) <= order:
        raise InputError(
            f"reconstruct: order {order} must have at least {order} steps; got {len(edges) - 1}. Take more steps or a "
            "lower order."
        )
    return _contiguous(_windows("reconstruct", edges, targets, order, _cell_weights))


def interpolate(times: Sequence[float], targets: Sequence[float], order: int) -> Stencil:
    """Map values at times to values at targets by the polynomial through the ``order`` nearest ones: error O(h^order).

    Args:
        times: t_0 .. t_N, strictly increasing or decreasing.
        targets: the times of the results, anywhere and in any order.
        order: the number of values that each result reads, from 2 to N + 1.

    Returns:
        The map from N + 1 rows to one row for each target; exact for polynomials of degree order - 1.

    Raises:
        InputError: order is not an integer >= 2, there are fewer times than that, or they are not monotonic.

    Example:
        >>> interpolate([0.0, 1.0, 2.0], [0.25], 2).weights
        ((0.75, 0.25),)
    """
    check_count("interpolate", "order", order, 2)
    _check_length("interpolate", times, order)
    return _contiguous(_windows("interpolate", times, targets, order - 1, _point_weights))


def hermite(times: Sequence[float], targets: Sequence[float], order: int) -> Stencil:
    """Map values and slopes at times to values at targets: piecewise Hermite interpolation with error O(h^order).

    Args:
        times: t_0 .. t_N, strictly increasing or decreasing.
        targets: the times of the results, anywhere and in any order.
        order: >= 1; the polynomial has max(2, ceil(order / 2)) nodes: cubic up to 4, three-node quintic for 5 and 6.

    Returns:
        The map from 2 (N + 1) rows, the values at all times and then the slopes d/dt at all times, to one row for each
        target; exact for polynomials of degree 2 nodes - 1.

    Raises:
        InputError: order is not an integer >= 1, there are fewer times than nodes, or they are not monotonic.

    Source: Hermite 1878; the formula with squared Lagrange polynomials.

    Example:
        >>> hermite([0.0, 1.0], [0.5], 4)
        Stencil(indices=((0, 1, 2, 3),), weights=((0.5, 0.5, 0.125, -0.125),))
    """
    check_count("hermite", "order", order, 1)
    num_nodes = max(2, math.ceil(order / 2))
    _check_length("hermite", times, num_nodes)
    windows = _windows("hermite", times, targets, num_nodes - 1, _hermite_weights)
    slopes = len(times)
    indices = tuple(
        (*range(first, first + num_nodes), *range(slopes + first, slopes + first + num_nodes)) for first, _ in windows
    )
    return Stencil(indices, tuple(weights for _, weights in windows))


def _contiguous(windows: Sequence[tuple[int, tuple[float, ...]]]) -> Stencil:
    """The map whose rows read neighbouring rows."""
    indices = tuple(tuple(range(first, first + len(weights))) for first, weights in windows)
    return Stencil(indices, tuple(weights for _, weights in windows))


def check_count(where: str, argument: str, got: int, least: int) -> None:
    """Refuse a count that is too small or not an integer."""
    if isinstance(got, bool) or not isinstance(got, int) or got < least:
        raise InputError(f"{where}: {argument} must be an integer >= {least}; got {got!r}. Choose a larger one.")


def check_times(where: str, times: Sequence[float]) -> None:
    """Refuse times that are not strictly monotonic."""
    sign = times[-1] - times[0]
    if not all((later - earlier) * sign > 0 for earlier, later in pairwise(times)):
        raise InputError(
            f"{where}: times must be strictly increasing or strictly decreasing; got {list(times[:4])} ... "
            f"{times[-1]}. Sort them and leave out duplicates."
        )


def _check_length(where: str, times: Sequence[float], least: int) -> None:
    if len(times) < least:
        raise InputError(f"{where}: times must be at least {least} for this order; got {len(times)}. Give more times.")


_Weigh = Callable[[Sequence[float], float], tuple[float, ...]]


def _windows(
    where: str, times: Sequence[float], targets: Sequence[float], width: int, weigh: _Weigh
) -> list[tuple[int, tuple[float, ...]]]:
    """For each target the first node of its window of ``width`` cells, and ``weigh(nodes, target)``."""
    check_times(where, times)
    rounding = 8 * _EPS * max(abs(times[0]), abs(times[-1]))
    steps = [later - earlier for earlier, later in pairwise(times)]
    is_uniform = max(steps) - min(steps) <= rounding
    sign = 1 if times[-1] > times[0] else -1
    ascending = [sign * t for t in times]
    last_cell = len(steps) - 1
    known: dict[Any, tuple[float, ...]] = {}
    found = []
    for target in targets:
        cell = min(max(bisect_right(ascending, sign * target) - 1, 0), last_cell)
        place = cell + (target - times[cell]) / steps[cell]
        first = min(max(math.floor(place + (1 - width) / 2 + _SNAP), 0), last_cell + 1 - width)
        offset = target - times[first]
        key = round(offset / rounding) if is_uniform else (first, offset)
        if key not in known:
            weights = weigh([t - times[first] for t in times[first : first + width + 1]], offset)
            known[key] = tuple(map(float, weights))
        found.append((first, known[key]))
    return found


def _lagrange(nodes: Sequence[float], u: float) -> tuple[list[float], list[float]]:
    """The Lagrange polynomials at u, and their slopes."""
    values, slopes = [], []
    for node in nodes:
        value: float = 1
        slope: float = 0
        for other in nodes:
            if other != node:
                factor = (u - other) / (node - other)
                value, slope = value * factor, slope * factor + value / (node - other)
        values.append(value)
        slopes.append(slope)
    return values, slopes


def _cell_weights(nodes: Sequence[float], u: float) -> tuple[float, ...]:
    """The slope at u of the interpolant of a running sum: a cell adds to the sum at every later edge."""
    slopes = _lagrange(nodes, u)[1]
    return tuple(reversed(list(accumulate(reversed(slopes[1:])))))


def _point_weights(nodes: Sequence[float], u: float) -> tuple[float, ...]:
    return tuple(_lagrange(nodes, u)[0])


def _hermite_weights(nodes: Sequence[float], u: float) -> tuple[float, ...]:
    """The weights of the values, then those of the slopes."""
    values, slopes = [], []
    for k, (node, value) in enumerate(zip(nodes, _lagrange(nodes, u)[0], strict=True)):
        steepness = _lagrange(nodes, node)[1][k]
        values.append((1 - 2 * (u - node) * steepness) * value * value)
        slopes.append((u - node) * value * value)
    return (*values, *slopes)
