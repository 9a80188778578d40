"""Solves and their derivatives by the book, in NumPy: the suite's second opinion on the core.

It shares nothing with the solver but the coefficients. Everything may be complex, times too, so a derivative along a
direction v is Im F(x + i h v) / h, exact to rounding for any tiny h (Squire and Trapp 1998,
doi:10.1137/S003614459631241X). Where h changes from step to step, a multistep method keeps increments h f.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import optree

from janode.core.tableaus import TABLEAUS, Tableau

from .problem import Problem

Tree = Any
Leaves = list[Any]
Read = Callable[[int, Any, Tree], Tree]
"""``read(n, t, controls)``: the control of a stage of step n at time t."""
Slope = Callable[[float, Leaves], Leaves]
"""``slope(c, y)``: the field at t_n + c h."""
Scheme = Callable[[Slope, Any, tuple[Leaves, ...]], tuple[Leaves, ...]]
"""``scheme(slope, h, carry) -> carry``: the first entry of a carry is the solution, the first carry just that."""
_TINY = 1e-30
_CENTRAL = ((1, 4 / 5), (2, -1 / 5), (3, 4 / 105), (4, -1 / 280))
_SPACING = 0.01
CENTRAL_LOSS = 32.0
"""By how much rounding errors grow in the central differences: a loss of the size of its derivative, over _SPACING."""
_ADAMS = {
    2: ("heun2", (3 / 2, -1 / 2)),
    3: ("heun3", (23 / 12, -4 / 3, 5 / 12)),
    4: ("rk4", (55 / 24, -59 / 24, 37 / 24, -3 / 8)),
}


def integrate(
    value: Callable[..., Tree],
    y0: Tree,
    ts: Sequence[Any],
    params: Tree,
    method: str | Tableau,
    steps: int,
    controls: Tree = None,
    read: Read | None = None,
) -> Tree:
    """The states at all ts, with ``steps`` equal steps between neighbouring times; every stage is evaluated."""
    leaves, spec = optree.tree_flatten(y0)
    scheme = find_scheme(method)
    carry: tuple[Leaves, ...] = (leaves,)
    rows, n = [leaves], 0
    for start, end in pairwise(ts):
        h = (end - start) / steps
        for i in range(steps):

            def slope(c: float, y: Leaves, t: Any = start + i * h, h: Any = h, n: int = n) -> Leaves:
                arguments = [] if params is None else [params]
                if read is not None:
                    arguments.append(read(n, t + c * h, controls))
                return optree.tree_leaves(value(t + c * h, spec.unflatten(y), *arguments))

            carry, n = scheme(slope, h, carry), n + 1
        rows.append(carry[0])
    return spec.unflatten([np.stack(leaf) for leaf in zip(*rows, strict=True)])


def read_knots(problem: Problem, values: Tree, t: Any, middle: float) -> Tree:
    """The control on knots at a time of a step whose middle is given: the interval is that of the middle."""
    x = np.asarray(problem.knots)
    j = int(np.clip(np.searchsorted(x, middle, side="right") - 1, 0, len(x) - 2))
    if problem.kind == "constant":
        return optree.tree_map(lambda leaf: leaf[j], values)
    h = x[j + 1] - x[j]
    s = (t - x[j]) / h
    if problem.kind == "linear":
        return optree.tree_map(lambda leaf: (1 - s) * leaf[j] + s * leaf[j + 1], values)

    def cubic(leaf: Any) -> Any:
        """Hermite's, with the slopes of parabolas through three values."""
        slopes = [_parabola_slope(x, leaf, i) for i in (j, j + 1)]
        ends = (1 + 2 * s) * (1 - s) ** 2 * leaf[j] + s**2 * (3 - 2 * s) * leaf[j + 1]
        return ends + h * (s * (1 - s) ** 2 * slopes[0] - s**2 * (1 - s) * slopes[1])

    return optree.tree_map(cubic, values)


def _parabola_slope(x: Any, values: Any, i: int) -> Any:
    """The slope at knot i of the parabola through it and its neighbours, or at the ends the next two, by Newton."""
    a = min(max(i - 1, 0), len(x) - 3)
    first = (values[a + 1] - values[a]) / (x[a + 1] - x[a])
    second = ((values[a + 2] - values[a + 1]) / (x[a + 2] - x[a + 1]) - first) / (x[a + 2] - x[a])
    return first + second * (2 * x[i] - x[a] - x[a + 1])


def find_scheme(method: str | Tableau) -> Scheme:
    """The step of a method."""
    if not isinstance(method, str):
        return _runge_kutta(method)
    if method in TABLEAUS:
        return _runge_kutta(TABLEAUS[method])
    if method.startswith("reversible("):
        return _coupled(_runge_kutta(TABLEAUS[method.removeprefix("reversible(").removesuffix(")")]))
    if method.startswith("ab"):
        return _adams(int(method.removeprefix("ab")))
    return {"leapfrog": _leapfrog, "alf": _alf, "reversible_heun": _reversible_heun}[method]


def combine(*parts: tuple[Any, Leaves]) -> Leaves:
    """The sum of multiples, leaf by leaf."""
    factors = [factor for factor, _ in parts]
    rows = zip(*(leaves for _, leaves in parts), strict=True)
    return [sum(factor * leaf for factor, leaf in zip(factors, row, strict=True)) for row in rows]


def _runge_kutta(tableau: Tableau) -> Scheme:
    a, b, c = tableau.floats.a, tableau.floats.b, tableau.floats.c

    def scheme(slope: Slope, h: Any, carry: tuple[Leaves, ...]) -> tuple[Leaves, ...]:
        (y,) = carry
        k: list[Leaves] = []
        for row, place in zip(a, c, strict=True):
            k.append(slope(place, combine((1.0, y), *((h * w, s) for w, s in zip(row, k, strict=False)))))
        return (combine((1.0, y), *((h * w, s) for w, s in zip(b, k, strict=True))),)

    return scheme


def _leapfrog(slope: Slope, h: Any, carry: tuple[Leaves, ...]) -> tuple[Leaves, ...]:
    """z_{n+1} = z_{n-1} + 2 h f_n, after a step by Euler."""
    now, before = carry if len(carry) == 2 else (carry[0], None)
    k = slope(0.0, now)
    return (combine((1.0, now), (h, k)) if before is None else combine((1.0, before), (2.0 * h, k))), now


def _adams(order: int) -> Scheme:
    """z_{n+1} = z_n + sum_j beta_j h f_{n-j}, after order - 1 Runge-Kutta steps."""
    start_method, weights = _ADAMS[order]
    start = _runge_kutta(TABLEAUS[start_method])

    def scheme(slope: Slope, h: Any, carry: tuple[Leaves, ...]) -> tuple[Leaves, ...]:
        y, *past = carry
        increments = [combine((h, slope(0.0, y))), *past]
        if len(past) < order - 1:
            return (*start(slope, h, (y,)), *increments)
        return combine((1.0, y), *zip(weights, increments, strict=True)), *increments[:-1]

    return scheme


def _alf(slope: Slope, h: Any, carry: tuple[Leaves, ...]) -> tuple[Leaves, ...]:
    """z_m = z + w/2, w' = 2 h f(t + h/2, z_m) - w, z' = z_m + w'/2; w_0 = h f(t_0, z_0)."""
    z, w = carry if len(carry) == 2 else (carry[0], combine((h, slope(0.0, carry[0]))))
    middle = combine((1.0, z), (0.5, w))
    w = combine((2.0 * h, slope(0.5, middle)), (-1.0, w))
    return combine((1.0, middle), (0.5, w)), w


def _reversible_heun(slope: Slope, h: Any, carry: tuple[Leaves, ...]) -> tuple[Leaves, ...]:
    """x' = 2 y - x + d, d' = h f(t + h, x'), y' = y + (d + d')/2; d_0 = h f(t_0, y_0)."""
    y, x, d = carry if len(carry) == 3 else (carry[0], carry[0], combine((h, slope(0.0, carry[0]))))
    x = combine((2.0, y), (-1.0, x), (1.0, d))
    following = combine((h, slope(1.0, x)))
    return combine((1.0, y), (0.5, d), (0.5, following)), x, following


def _coupled(base: Scheme, coupling: float = 0.999) -> Scheme:
    """y' = q y + (1 - q) z + Psi_h(z) - z, z' = z - (Psi_{-h}(y') - y'), Psi_{-h} from t + h."""

    def scheme(slope: Slope, h: Any, carry: tuple[Leaves, ...]) -> tuple[Leaves, ...]:
        y, z = carry if len(carry) == 2 else carry * 2
        (forth,) = base(slope, h, (z,))
        y = combine((coupling, y), (-coupling, z), (1.0, forth))
        (back,) = base(lambda c, state: slope(1.0 - c, state), -h, (y,))
        return y, combine((1.0, z), (1.0, y), (-1.0, back))

    return scheme


def derivative(function: Callable[[Any], Any], is_analytic: bool) -> float:
    """The derivative of a real function of one number at 0.

    By a complex step if the function is analytic; else by central differences of order 8, good to CENTRAL_LOSS
    rounding errors for functions that change slowly over ``_SPACING``.
    """
    if is_analytic:
        return float(np.imag(function(1j * _TINY))) / _TINY
    return sum(w * (function(j * _SPACING) - function(-j * _SPACING)) for j, w in _CENTRAL) / _SPACING
