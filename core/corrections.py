"""Corrected gradients of controls: from what a discrete solve gives at its nodes to the continuous L2 gradient.

    g(t) = (df/dtheta)^T p(t),   p' = -J^T p,   p(T) = dL/dz(T),   J = df/dz

``raw`` is dL/dtheta_node of the discrete solve: exact, and oscillating from node to node. G_n = raw_n / h. Most
corrections are linear maps of rows (``Stencil``, applied by ``apply_stencil``), made from Python numbers; where only an
array knows the step size, make the map for h = 1 and divide by h. Step sizes are negative where time decreases.

Those for Runge-Kutta methods are ``reconstruct`` (filter) and ``hermite`` (consistent), in ``stencils``.

Source: after Xu, Chen, Li 2023, arXiv 2306.02192, who treat leapfrog and two-stage Runge-Kutta methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from .errors import InputError
from .protocols import Array, Backend, State, Time
from .stencils import Stencil, check_count, check_times, interpolate, make_stencil, widened


def leapfrog_filter(num_steps: int, h: float) -> Stencil:
    """Map raw gradients of leapfrog with an Euler start to g_n; order 2 at every node.

        g_n = (G_{n-1} + 2 G_n + G_{n+1}) / 4,   g_0 = (2 G_0 + 3 G_1 - G_3) / 4,   g_N = (3 G_{N-1} - G_{N-3}) / 4

    with G_0 = raw_0 / (h / 2), since the Euler step weighs half, and G_N = 0. For gradients of z_N, not of Gragg's
    smoothed end, which need no filter.

    Args:
        num_steps: N >= 4.
        h: the step size, not zero.

    Returns:
        The map from the N + 1 rows raw_0 .. raw_N to g_0 .. g_N.

    Raises:
        InputError: num_steps is not an integer >= 4.

    Example:
        >>> leapfrog_filter(4, 0.25).weights[2]
        (1.0, 2.0, 1.0)
    """
    check_count("leapfrog_filter", "num_steps", num_steps, 4)
    return _leapfrog(num_steps, h, {0: {0: 2, 1: 3, 3: -1}, num_steps: {num_steps - 1: 3, num_steps - 3: -1}})


def leapfrog_filter_descent(num_steps: int, h: float) -> Stencil:
    """Map raw gradients of leapfrog with an Euler start to g_n against which the discrete loss does not increase.

        g_n = (G_{n-1} + 2 G_n + G_{n+1}) / 4,   g_0 = (G_0 + G_1) / 2,   g_N = G_{N-1} / 2

    Order 2 inside, 1 at both ends. Positive semidefinite in the inner product of the trapezoid rule, whose weights w
    are ``leapfrog_weights``: sum_n w_n g_n . G_n = sum_n g_n . raw_n >= 0 for h > 0.

    Args:
        num_steps: N >= 2.
        h: the step size, not zero.

    Returns:
        The map from the N + 1 rows raw_0 .. raw_N to g_0 .. g_N.

    Raises:
        InputError: num_steps is not an integer >= 2.

    Example:
        >>> leapfrog_filter_descent(2, 1.0).weights[0]
        (1.0, 0.5, 0.0)
    """
    check_count("leapfrog_filter_descent", "num_steps", num_steps, 2)
    return _leapfrog(num_steps, h, {0: {0: 2, 1: 2}, num_steps: {num_steps - 1: 2}})


def leapfrog_filter_any_start(num_steps: int, h: float) -> Stencil:
    """Map raw gradients of leapfrog, started by a method with theta leaves of its own, to g_n; order 2 at every node.

        g_1 = (2 G_1 + 3 G_2 - G_4) / 4,   g_0 = (3 G_1 + 4 G_2 - G_3 - 2 G_4) / 4,   the rest as ``leapfrog_filter``

    No gradient of the start step may be in raw_1 .. raw_N: a stage at its end must not read the control of t_1.

    Args:
        num_steps: N >= 5.
        h: the step size, not zero.

    Returns:
        The map from the N + 1 rows raw_0 .. raw_N to g_0 .. g_N; raw_0 is not read.

    Raises:
        InputError: num_steps is not an integer >= 5.

    Example:
        >>> leapfrog_filter_any_start(5, 0.25).weights[0]
        (3.0, 4.0, -1.0, -2.0)
    """
    check_count("leapfrog_filter_any_start", "num_steps", num_steps, 5)
    start = {0: {1: 3, 2: 4, 3: -1, 4: -2}, 1: {1: 2, 2: 3, 4: -1}}
    return _leapfrog(num_steps, h, {**start, num_steps: {num_steps - 1: 3, num_steps - 3: -1}})


def _leapfrog(num_steps: int, h: float, ends: Mapping[int, Mapping[int, float]]) -> Stencil:
    """The inner rows and the given ones, whose weights are those of 4 G_n."""
    inner = {n: {n - 1: 1, n: 2, n + 1: 1} for n in range(1, num_steps)}
    rows = {**inner, **ends}
    scales = {0: 2 / (4 * h)}
    return make_stencil(
        {m: weight * scales.get(m, 1 / (4 * h)) for m, weight in rows[n].items()} for n in range(num_steps + 1)
    )


def leapfrog_weights(num_steps: int, h: float) -> tuple[float, ...]:
    """The trapezoid weights (h / 2, h, ..., h, h / 2) by which raw_0 .. raw_N of a smoothed leapfrog are divided.

    With the loss taken of, or its cotangent passed through, Gragg's S = (z_N + z_{N-1} + h f(z_N, theta_N)) / 2,
    raw_n / w_n is of order 2 at every node. ``Stencil.scaled`` with these weights makes w_n g_n of a map to g_n.

    Args:
        num_steps: N >= 1.
        h: the step size.

    Raises:
        InputError: num_steps is not an integer >= 1.

    Example:
        >>> leapfrog_weights(3, 0.5)
        (0.25, 0.5, 0.5, 0.25)
    """
    check_count("leapfrog_weights", "num_steps", num_steps, 1)
    return (h / 2, *[h] * (num_steps - 1), h / 2)


def leapfrog_adjoint_average(num_steps: int) -> Stencil:
    """Map leapfrog's adjoints lam_0 .. lam_N to p_n, so that g_n = (df/dtheta)_n^T p_n is of order 2 at every node.

        p_n = (lam_n + 2 lam_{n+1} + lam_{n+2}) / 2,   p_0 = lam_0,   p_N = lam_N,   lam_{N+1} = 0

    lam_n is the total derivative dL/dz_n: lam_n = lam_{n+2} + 2 h J_n^T lam_{n+1}. Any start step.

    Args:
        num_steps: N >= 2.

    Returns:
        The map from N + 1 rows to N + 1 rows; N + 1 VJPs of the field turn them into g_n.

    Raises:
        InputError: num_steps is not an integer >= 2.

    Example:
        >>> leapfrog_adjoint_average(2).weights
        ((1.0, 0.0), (0.5, 1.0), (1.0, 0.0))
    """
    check_count("leapfrog_adjoint_average", "num_steps", num_steps, 2)
    inner = [{n: 0.5, n + 1: 1.0, n + 2: 0.5} for n in range(1, num_steps - 1)]
    last = {num_steps - 1: 0.5, num_steps: 1.0}
    return make_stencil([{0: 1.0}, *inner, last, {num_steps: 1.0}])


def divide(steps: Sequence[float], b: Sequence[float], nodes: Sequence[Sequence[int]] | None = None) -> Stencil:
    """Map raw gradients of Runge-Kutta stages to raw_{n,i} / (h_n b_i): what suggests itself, for comparison.

    Order 1 in general; order 2 if sum_j b_j a_ji = b_i (1 - c_i) for all i. Rows that stages share may gain an order:
    measured 2 for Heun's method and 3 for the classical method of order 4.

    Args:
        steps: the N step sizes h_n.
        b: the s weights of the method.
        nodes: nodes[n][i] is the row that stage i of step n adds its gradient to, if stages share rows; every row
            is read. A shared row is divided by the sum of its h_n b_i.

    Returns:
        The map of N s rows, ordered by step and then by stage, or of the rows that nodes names, to as many rows.

    Raises:
        InputError: the weight of a row is zero, as is b_i = 0 where rows are not shared.

    Example:
        >>> divide([0.5, 0.5], [0.25, 0.75]).weights
        ((8.0,), (2.666...,), (8.0,), (2.666...,))
        >>> divide([0.5, 0.5], [0.5, 0.5], [[0, 1], [1, 2]]).weights
        ((4.0,), (2.0,), (4.0,))
    """
    num_stages = len(b)
    weights: dict[int, float] = {}
    readers: dict[int, set[int]] = {}
    for n, h in enumerate(steps):
        for i, weight in enumerate(b):
            row = n * num_stages + i if nodes is None else nodes[n][i]
            weights[row] = weights.get(row, 0.0) + h * weight
            readers.setdefault(row, set()).add(i)
    rows = sorted(weights)
    for row in rows:
        if weights[row] == 0.0:
            names = " + ".join(f"b_{i + 1}" for i in sorted(readers[row]))
            raise InputError(
                f"divide: b must have no weights that are or add up to zero at a node; got {names} = 0. Use the "
                "filter, which needs no weights."
            )
    return Stencil(tuple((row,) for row in rows), tuple((1 / weights[row],) for row in rows))


def adams_bashforth_filter(num_steps: int, order: int, h: float, places: Sequence[float] | None = None) -> Stencil:
    """Map raw gradients of the Adams-Bashforth method of order k, and the end values of g, to g; order k everywhere.

    raw_n / h is of order k for n = k .. N - k (k - 1) - 1 and stays; the rest is interpolated by polynomials of degree
    k - 1 through these and g_0 = (df/dtheta)_0^T lam_0, g_N = (df/dtheta)_N^T lam_N, lam_n = dL/dz_n. The gradients of
    the k - 1 start steps, by any method of order >= k - 1, are not read.

    Args:
        num_steps: N >= k^2 + k - 1.
        order: k >= 2.
        h: the step size, not zero.
        places: where g is wanted, in steps from t_0; by default 0 .. N.

    Returns:
        The map from the N + 3 rows g_0, raw_0 .. raw_N, g_N to one row for each place.

    Raises:
        InputError: order is not an integer >= 2, or num_steps not one >= k^2 + k - 1.

    Example:
        >>> adams_bashforth_filter(5, 2, 0.5).indices[:3]
        ((0, 3), (0, 3), (3, 7))
        >>> adams_bashforth_filter(5, 2, 0.5).weights[:3]
        ((1.0, 0.0), (0.5, 1.0), (2.0, 0.0))
    """
    check_count("adams_bashforth_filter", "order", order, 2)
    check_count("adams_bashforth_filter", "num_steps", num_steps, order * order + order - 1)
    kept = range(order, num_steps - order * (order - 1))
    rows = [0, *(n + 1 for n in kept), num_steps + 2]
    scales = [1.0, *[1 / h] * len(kept), 1.0]
    between = interpolate([0, *kept, num_steps], range(num_steps + 1) if places is None else places, order)
    terms = (zip(*term, strict=True) for term in zip(between.indices, between.weights, strict=True))
    return make_stencil({rows[j]: scales[j] * weight for j, weight in term} for term in terms)


Pull = Callable[[Any, State], tuple[State, State]]
"""(n, p) -> (J_n^T p, row): the VJP of the field at node n, and what is wanted of it, such as (df/dtheta)_n^T p."""

_TAIL = 6


def adams_bashforth_costate(
    backend: Backend, pull: Pull, num_steps: int, weights: Sequence[float], h: Time, p_end: State
) -> State:
    """Solve p' = -J^T p down the nodes of an Adams-Bashforth solve at its own order, and keep a row of every node.

    p_N = p_end; the classical Runge-Kutta method takes three steps of 2 h, cubic Hermite interpolation gives the odd
    nodes between them, and then p_n = p_{n+1} + h sum_j beta_j J_{n+1+j}^T p_{n+1+j}.

    Args:
        backend: the array library's operations; the long part is one ``scan``.
        pull: (n, p) -> (J_n^T p, row), leaves of p's shapes and dtypes, and any tuple of arrays; n is a Python integer
            or, on traced libraries, an array. For g let row be (df/dtheta)_n^T p, from the same VJP.
        num_steps: N >= 7.
        weights: beta_0 .. beta_{k-1}, 1 <= k <= 4; to order 4 the start limits nothing.
        h: the step size.
        p_end: dL/dz(T), lam_N of the solve.

    Returns:
        The rows of p_0 .. p_N, stacked along a new leading axis.

    Raises:
        InputError: num_steps is not an integer >= 7.

    Cost: N + 10 calls of pull; holds k slopes and the rows.

    Example:
        >>> import numpy as np
        >>> from janode.backends.registry import find_backend
        >>> pull = lambda n, p: ((0.5 * p[0],), p)  # z' = z / 2, and p itself is wanted
        >>> (p,) = adams_bashforth_costate(find_backend("numpy"), pull, 16, (1.5, -0.5), 1 / 16, (np.ones(1),))
        >>> float(p[0, 0])  # exp(1/2)
        1.648...
    """
    check_count("adams_bashforth_costate", "num_steps", num_steps, _TAIL + 1)

    def combine(base: State, coefficients: Sequence[float], *terms: State) -> State:
        return backend.linear_combination(base, h, coefficients, terms)

    def take_two_steps(carry: Any, xs: Any) -> tuple[Any, tuple[()]]:
        p, slopes, rows = carry
        (n,) = xs
        k1 = slopes[0]
        k2, _ = pull(n - 1, combine(p, (1.0,), k1))
        k3, _ = pull(n - 1, combine(p, (1.0,), k2))
        k4, _ = pull(n - 2, combine(p, (2.0,), k3))
        p_next = combine(p, (1 / 3, 2 / 3, 2 / 3, 1 / 3), k1, k2, k3, k4)
        slope_next, row_next = pull(n - 2, p_next)
        mean = backend.linear_combination(None, 0.5, (1.0, 1.0), (p, p_next))
        slope_between, row_between = pull(n - 1, combine(mean, (0.25, -0.25), k1, slope_next))
        rows = backend.put(backend.put(rows, n - 1, row_between), n - 2, row_next)
        return (p_next, (slope_next, slope_between, *slopes)[: len(slopes)], rows), ()

    def take_step(carry: Any, xs: Any) -> tuple[Any, tuple[()]]:
        p, slopes, rows = carry
        (n,) = xs
        p = combine(p, weights, *slopes)
        slope, row = pull(n, p)
        return (p, (slope, *slopes[:-1]), backend.put(rows, n, row)), ()

    slope, row = pull(num_steps, p_end)
    carry: Any = (p_end, (slope,) * len(weights), backend.buffer(num_steps + 1, row))
    carry, _ = backend.scan(take_two_steps, carry, ([num_steps, num_steps - 2, num_steps - 4],))
    carry, _ = backend.scan(take_step, carry, (list(range(num_steps - _TAIL)),), reverse=True)
    return backend.stack(carry[2])


def trapezoid_weights(times: Sequence[float]) -> tuple[float, ...]:
    """The weights w_k of the trapezoid rule on these times, so that sum_k w_k g(t_k) . dtheta(t_k) ~ dL.

    Args:
        times: t_0 .. t_{M-1}, M >= 2, strictly increasing or decreasing (then the weights are negative).

    Returns:
        M weights, in the unit of time.

    Raises:
        InputError: there are fewer than 2 times, or they are not strictly monotonic.

    Example:
        >>> trapezoid_weights([0.0, 1.0, 3.0])
        (0.5, 1.5, 1.0)
    """
    if len(times) < 2:
        raise InputError(f"trapezoid_weights: times must be at least 2; got {len(times)}. Give more times.")
    check_times("trapezoid_weights", times)
    halves = [(later - earlier) / 2 for earlier, later in pairwise(times)]
    return tuple(left + right for left, right in zip([0.0, *halves], [*halves, 0.0], strict=True))


def oscillation(xp: Any, rows: State) -> Array:
    """Measure how much rows oscillate from node to node: ||g - local mean|| / ||g||, dimensionless.

    The local mean is (g_{k-1} + 2 g_k + g_{k+1}) / 4; both Euclidean norms are over the inner nodes of all leaves. A
    sawtooth (-1)^k has 1, a straight line 0, values of a smooth function O(h^2); noise is near 0.6.

    Args:
        xp: the Array API namespace of the rows.
        rows: leaves of shape (M, ...), M >= 3, in the order of their times; raw gradients divided by their weights
            (``trapezoid_weights``), as the weights oscillate too.

    Returns:
        A 0-d array of the real dtype of the first leaf, at least single; 0 where all inner rows are zero.

    Raises:
        InputError: a leaf has fewer than 3 rows.

    Example:
        >>> import array_api_compat.numpy as xp
        >>> float(oscillation(xp, (xp.asarray([1.0, -1.0, 1.0, -1.0]),)))
        1.0
    """
    deviation, size = [], []
    for leaf in rows:
        if leaf.ndim == 0 or leaf.shape[0] < 3:
            raise InputError(
                f"oscillation: rows must have a leading axis of at least 3; got shape {tuple(leaf.shape)}. Take more "
                "steps."
            )
        wide = widened(xp, leaf)
        inner = wide[1:-1, ...]
        ripple = 0.5 * inner - 0.25 * (wide[:-2, ...] + wide[2:, ...])
        deviation.append(xp.sum(xp.abs(ripple) ** 2))
        size.append(xp.sum(xp.abs(inner) ** 2))
    dtype = size[0].dtype
    squares = [sum(xp.astype(part, dtype, copy=False) for part in parts) for parts in (deviation, size)]
    return xp.sqrt(squares[0] / (squares[1] + float(xp.finfo(dtype).smallest_normal)))


def sawtooth_ends(xp: Any, rows: State) -> list[tuple[Array, Array]]:
    """For each leaf the largest values of its sawtooth in the first and in the last quarter of the rows, at least 3."""
    ends = []
    for leaf in rows:
        ripple = xp.abs(0.5 * leaf[1:-1, ...] - 0.25 * (leaf[:-2, ...] + leaf[2:, ...]))
        quarter = max(1, ripple.shape[0] // 4)
        ends.append((xp.max(ripple[:quarter, ...]), xp.max(ripple[-quarter:, ...])))
    return ends


def sawtooth_growth(ends: Sequence[tuple[float, float]]) -> float:
    """By what factor a sawtooth grows from the end to the start of the interval, from what ``sawtooth_ends`` gives.

    Both are largest where they begin: three quarters of the interval apart.
    """
    first, last = (max((pair[i] for pair in ends), default=0.0) for i in (0, 1))
    return (first / max(last, 1e-300)) ** (4 / 3)
