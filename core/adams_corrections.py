"""Corrected gradients of controls for Adams-Bashforth methods: what the exact gradient lacks near the ends of a piece.

Their raw gradient over h is of the method's order away from both ends. The formulas are per piece: between two times at
which the loss reads the state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .multistep import WEIGHTS
from .protocols import Backend, State, Time
from .stencils import Stencil, check_count, interpolate, make_stencil


def adams_bashforth_filter(
    num_steps: int, order: int, h: float, places: Sequence[float] | None = None, follows: bool = False
) -> Stencil:
    """Map raw gradients of the Adams-Bashforth method of order k, and the end values of g, to g; order k everywhere.

    raw_n / h is of order k for n = k .. N - k (k - 1) - 1 and stays; the rest is interpolated by polynomials of degree
    k - 1 through these and g_0 = (df/dtheta)_0^T lam_0, g_N = raw_N / h + (df/dtheta)_N^T y_bar. The gradients of the
    k - 1 start steps, by any method of order >= k - 1, are not read. y_bar is the cotangent that enters at t_N, and
    raw_N what comes from later times: zero where the solve ends.

    Args:
        num_steps: N >= k^2 + k - 1.
        order: k >= 2.
        h: the step size, not zero.
        places: where g is wanted, in steps from t_0; by default 0 .. N.
        follows: whether the piece follows another: then raw_n / h stays from n = 0 on, and g_0 is not read.

    Returns:
        The map from the N + 3 rows g_0, raw_0 .. raw_N, (df/dtheta)_N^T y_bar to one row for each place.

    Raises:
        InputError: order is not an integer >= 2, or num_steps not one >= k^2 + k - 1.

    Example:
        >>> adams_bashforth_filter(5, 2, 0.5).indices[:3]
        ((0, 3, 0), (0, 3, 0), (3, 7, 6))
        >>> adams_bashforth_filter(5, 2, 0.5).weights[:3]
        ((1.0, 0.0, 0.0), (0.5, 1.0, 0.0), (2.0, 0.0, 0.0))
    """
    check_count("adams_bashforth_filter", "order", order, 2)
    check_count("adams_bashforth_filter", "num_steps", num_steps, order * order + order - 1)
    last = num_steps - order * (order - 1)
    kept = range(0 if follows else order, last)
    known: dict[float, dict[int, float]] = {n: {n + 1: 1 / h} for n in kept}
    if not follows:
        known[0] = {0: 1.0}
    known[num_steps] = {num_steps + 2: 1.0, num_steps + 1: 1 / h}
    times = sorted(known)
    between = interpolate(times, range(num_steps + 1) if places is None else places, order)
    return between.of(make_stencil(known[n] for n in times))


Pull = Callable[[Any, State], tuple[State, State]]
"""(n, p) -> (J_n^T p, row): the VJP of the field at node n, and what is wanted of it, such as (df/dtheta)_n^T p."""


def adams_bashforth_costate(
    backend: Backend, pull: Pull, num_steps: int, weights: Sequence[float], h: Time, p_end: State
) -> tuple[State, State]:
    """Solve p' = -J^T p down the nodes of an Adams-Bashforth solve at its own order, and keep a row of every node.

        p_n = p_{n+1} + h sum_j beta_j J_{n+1+j}^T p_{n+1+j}

    from p_N = p_end. The start up to order 2: p_{N-1} = p_N + h s_N, and with its slope the trapezoid rule. For 3 and
    4: one step of 2 h of the classical Runge-Kutta method, cubic Hermite interpolation between, and a step by three
    slopes.

    Args:
        backend: the array library's operations; the long part is one ``scan``.
        pull: (n, p) -> (J_n^T p, row), leaves of p's shapes and dtypes, and any tuple of arrays; n is a Python integer
            or, on traced libraries, an array. For g let row be (df/dtheta)_n^T p, from the same VJP.
        num_steps: N >= max(1, k - 1).
        weights: beta_0 .. beta_{k-1}, 1 <= k <= 4.
        h: the step size.
        p_end: dL/dz(T), lam_N of the solve; for a piece that another follows p_0 of that one, and what enters between.

    Returns:
        (the rows of p_0 .. p_N, stacked along a new leading axis; p_0).

    Raises:
        InputError: num_steps is not an integer >= max(1, k - 1).

    Cost: N + 1 calls of pull up to order 2, N + 4 for 3 and 4; holds k slopes and the rows.

    Example:
        >>> import numpy as np
        >>> from janode.backends.registry import find_backend
        >>> pull = lambda n, p: ((0.5 * p[0],), p)  # z' = z / 2, and p itself is wanted
        >>> (p,), _ = adams_bashforth_costate(find_backend("numpy"), pull, 16, (1.5, -0.5), 1 / 16, (np.ones(1),))
        >>> float(p[0, 0])  # exp(1/2)
        1.648...
    """
    order = len(weights)
    check_count("adams_bashforth_costate", "num_steps", num_steps, max(1, order - 1))
    n, p = num_steps, p_end
    slope, row = pull(n, p)
    slopes: tuple[State, ...] = (slope,)
    rows = backend.buffer(num_steps + 1, row)

    def combine(base: State, coefficients: Sequence[float], *terms: State) -> State:
        return backend.linear_combination(base, h, coefficients, terms)

    if order > 2:
        n, p, slopes, rows = _take_two_steps(backend, pull, combine, n, p, slope, rows)
    else:
        n -= 1
        slope, row = pull(n, combine(p, (1.0,), slope))
        p = combine(p, (0.5, 0.5), slope, slopes[0])
        slopes, rows = (slope, *slopes)[:order], backend.put(rows, n, row)
    if order > 3 and n > 0:
        n, p = n - 1, combine(p, WEIGHTS[3], *slopes)
        slope, row = pull(n, p)
        slopes, rows = (slope, *slopes), backend.put(rows, n, row)

    def take_step(carry: Any, xs: Any) -> tuple[Any, tuple[()]]:
        p, slopes, rows = carry
        (n,) = xs
        p = combine(p, weights, *slopes)
        slope, row = pull(n, p)
        return (p, (slope, *slopes[:-1]), backend.put(rows, n, row)), ()

    if n > 0:
        (p, _, rows), _ = backend.scan(take_step, (p, slopes, rows), (list(range(n)),), reverse=True)
    return backend.stack(rows), p


def _take_two_steps(
    backend: Backend, pull: Pull, combine: Callable[..., State], n: int, p: State, k1: State, rows: Any
) -> tuple[int, State, tuple[State, ...], Any]:
    """(n - 2, p there, slopes at n - 2, n - 1 and n, the rows)."""
    k2, _ = pull(n - 1, combine(p, (1.0,), k1))
    k3, _ = pull(n - 1, combine(p, (1.0,), k2))
    k4, _ = pull(n - 2, combine(p, (2.0,), k3))
    p_next = combine(p, (1 / 3, 2 / 3, 2 / 3, 1 / 3), k1, k2, k3, k4)
    slope, row = pull(n - 2, p_next)
    mean = backend.linear_combination(None, 0.5, (1.0, 1.0), (p, p_next))
    between, row_between = pull(n - 1, combine(mean, (0.25, -0.25), k1, slope))
    return n - 2, p_next, (slope, between, k1), backend.put(backend.put(rows, n - 1, row_between), n - 2, row)
