"""Controls on knots of their own: interpolants linear in the values, as weights that any steps can evaluate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from array_api_compat import device

from .errors import InputError
from .protocols import Array, Method, State
from .stepping import Stepping, check_adaptive

KINDS = ("constant", "linear", "cubic")


@dataclass(frozen=True, eq=False)
class Knots:
    """A control given by values at a few times, and interpolated between them: theta(t) = sum_j W_j(t) values_j.

    It suits any steps, adaptive ones too, which then end at the knots. With ``steps`` or ``step_size`` they need not.

    Args:
        times: the knots, at least two, strictly increasing, in the time unit of the field. They must cover the solve.
        values: any pytree of real or complex floating-point arrays with a leading axis of ``len(times)``, or of one
            entry less, one for each interval, if they are constant in it.
        kind: ``"linear"``; ``"constant"``, the value of the interval [t_j, t_{j+1}) that holds t; or ``"cubic"``, the
            continuously differentiable cubic whose slopes at the knots are those of parabolas through three values.

    Raises:
        InputError: the times or the kind break a rule above.

    Example:
        >>> import numpy as np
        >>> force = Knots([0.0, 0.5, 2.0], np.asarray([0.0, 1.0, 0.0]))
    """

    times: Sequence[float]
    values: Any
    kind: str = "linear"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"Knots: kind must be one of {', '.join(KINDS)}; got {self.kind!r}. Choose one of them.")
        try:
            times = tuple(float(t) for t in self.times)
        except (TypeError, ValueError):
            times = ()
        if len(times) < 2 or not all(a < b for a, b in pairwise(times)) or not all(map(math.isfinite, times)):
            raise InputError(
                f"Knots: times must be at least 2 finite numbers that strictly increase; got {self.times!r}. Sort "
                "them, and for a solve in reversed time keep them so."
            )
        object.__setattr__(self, "times", times)

    @property
    def num_values(self) -> int:
        """The number M of values."""
        return len(self.times) - (self.kind == "constant")


def check_knots(where: str, knots: Knots, leaves: State, paths: Sequence[str], sampling: str) -> None:
    """Refuse values that are not one for each knot or interval."""
    if sampling != "nodes":
        raise InputError(
            f"{where}: Knots must not come with sampling, for they are read at the time of every stage; got "
            f"{sampling!r}. Leave it out."
        )
    if not leaves:
        raise InputError(f"{where}: the values of Knots must hold an array; got none. Leave controls out.")
    for leaf, path in zip(leaves, paths, strict=True):
        shape = getattr(leaf, "shape", None)
        if shape is None or not len(shape) or shape[0] != knots.num_values:
            got = type(leaf).__name__ if shape is None else f"shape {tuple(shape)}"
            each = "interval" if knots.kind == "constant" else "knot"
            raise InputError(
                f"{where}: {path} must be an array with a leading axis of {knots.num_values}, one entry for each "
                f"{each}; got {got}. Give the values along the first axis."
            )


def stop_at_knots(where: str, knots: Knots, stepping: Stepping, method: Method, ts: Sequence[float]) -> Stepping:
    """The stepping whose adaptive steps end at the knots inside of the solve; refuses knots that do not cover it."""
    low, high = min(ts[0], ts[-1]), max(ts[0], ts[-1])
    first, last = knots.times[0], knots.times[-1]
    if low < first or last < high:
        raise InputError(
            f"{where}: the times of Knots must cover ts, from {low} to {high}; got {first} to {last}. Add knots, or "
            "solve between them."
        )
    if not stepping.is_adaptive(where, method):
        return stepping
    controller = check_adaptive(where, stepping)
    stops = [t for t in knots.times[1:-1] if low <= t <= high]
    if knots.kind == "constant":
        return replace(stepping, controller=replace(controller, jump_ts=(*controller.jump_ts, *stops)))
    return replace(stepping, controller=replace(controller, step_ts=(*controller.step_ts, *stops)))


class Weights:
    """W(t) and its derivative W'(t), as arrays of one library.

    On each interval W is a polynomial in s = (t - t_j) / h_j; beyond the ends the outer ones are continued.

    Args:
        knots: the knots; their values are not read.
        xp: the Array API namespace.
        like: an array of the dtype of the times and on their device.

    Cost: 4 M^2 numbers are held for cubics, 2 M^2 for lines; M products per evaluation and power of s.
    """

    def __init__(self, knots: Knots, xp: Any, like: Array) -> None:
        def array(entries: Any) -> Array:
            return xp.asarray(entries, dtype=like.dtype, device=device(like))

        self._xp, self._num_values = xp, knots.num_values
        self._inner = array([knots.times[1:-1]])
        self._starts = array(knots.times[:-1])
        self._sizes = array([b - a for a, b in pairwise(knots.times)])
        self._powers = [array(rows) for rows in _powers(knots)]

    def __call__(self, t: Array) -> Array:
        """W(t), of shape (M,); for a batch of times one row for each."""
        index, s, _ = self._placed(t)
        total = self._row(len(self._powers) - 1, index)
        for degree in range(len(self._powers) - 2, -1, -1):
            total = total * s + self._row(degree, index)
        return self._xp.reshape(total, (*t.shape, self._num_values))

    def derivative(self, t: Array) -> Array:
        """W'(t), of the shape of W(t)."""
        index, s, h = self._placed(t)
        total = 0.0 * self._row(0, index)
        for degree in range(len(self._powers) - 1, 0, -1):
            total = total * s + degree * self._row(degree, index)
        return self._xp.reshape(total / h, (*t.shape, self._num_values))

    def _placed(self, t: Array) -> tuple[Array, Array, Array]:
        """(interval, place s in it, its length) of each time."""
        xp = self._xp
        t = xp.reshape(t, (-1, 1))
        index = xp.sum(xp.astype(t >= self._inner, xp.int32), axis=1)
        h = xp.reshape(xp.take(self._sizes, index, axis=0), (-1, 1))
        return index, (t - xp.reshape(xp.take(self._starts, index, axis=0), (-1, 1))) / h, h

    def _row(self, degree: int, index: Array) -> Array:
        return self._xp.take(self._powers[degree], index, axis=0)


def combined(xp: Any, weights: Array, leaf: Array) -> Array:
    """sum_j weights[..., j] leaf[j, ...], in the dtype of the leaf: not a matrix product, which may round more."""
    factors = xp.reshape(xp.astype(weights, leaf.dtype, copy=False), (*weights.shape, *(1,) * (leaf.ndim - 1)))
    return xp.sum(factors * leaf, axis=weights.ndim - 1)


def spread(xp: Any, weights: Array, bar: Array) -> Array:
    """The pullback of ``combined`` for weights (M,): weights[j] bar."""
    return xp.reshape(xp.astype(weights, bar.dtype, copy=False), (-1, *(1,) * bar.ndim)) * bar


def _powers(knots: Knots) -> list[list[list[float]]]:
    """For each power of s one row of M weights for each interval."""
    x, size = knots.times, knots.num_values
    if knots.kind == "constant":
        return [[_unit(i, size) for i in range(size)]]
    units = [_unit(i, size) for i in range(size)]
    if knots.kind == "linear":
        return [units[:-1], [_sum((-1.0, a), (1.0, b)) for a, b in pairwise(units)]]
    slopes = [_slope(x, i) for i in range(size)]
    powers: list[list[list[float]]] = [[], [], [], []]
    for i in range(size - 1):
        h, a, b, da, db = x[i + 1] - x[i], units[i], units[i + 1], slopes[i], slopes[i + 1]
        powers[0].append(a)
        powers[1].append(_sum((h, da)))
        powers[2].append(_sum((-3.0, a), (3.0, b), (-2.0 * h, da), (-h, db)))
        powers[3].append(_sum((2.0, a), (-2.0, b), (h, da), (h, db)))
    return powers


def _slope(x: Sequence[float], i: int) -> list[float]:
    """The weights of the slope at knot i: that of the polynomial through the three nearest values in a row."""
    first = min(max(i - 1, 0), max(len(x) - 3, 0))
    window = range(first, min(first + 3, len(x)))
    weights = [0.0] * len(x)
    for j in window:
        others = [k for k in window if k != j]
        if j == i:
            weights[j] = sum(1.0 / (x[i] - x[k]) for k in others)
        else:
            rest = math.prod(x[i] - x[k] for k in others if k != i)
            weights[j] = rest / math.prod(x[j] - x[k] for k in others)
    return weights


def _unit(i: int, size: int) -> list[float]:
    return [float(i == j) for j in range(size)]


def _sum(*terms: tuple[float, list[float]]) -> list[float]:
    return [sum(factor * row[j] for factor, row in terms) for j in range(len(terms[0][1]))]
