"""Corrected gradients of controls: from what a discrete solve gives at its nodes to the continuous L2 gradient.

    g(t) = (df/dtheta)^T p(t),   p' = -J^T p,   p(T) = dL/dz(T),   J = df/dz

``raw`` is dL/dtheta_node of the discrete solve: exact, and oscillating from node to node. G_n = raw_n / h. Most
corrections are linear maps of rows (``Stencil``, applied by ``apply_stencil``), made from Python numbers; where only an
array knows the step size, make the map for h = 1 and divide by h. Step sizes are negative where time decreases.

Those for Runge-Kutta methods are ``reconstruct`` (filter) and ``hermite`` (consistent), in ``stencils``, those for
Adams-Bashforth methods in ``adams_corrections``. All hold between two times at which the loss reads the state; where it
does so at more than two, for each piece between neighbouring ones.

Source: after Xu, Chen, Li 2023, arXiv 2306.02192, who treat leapfrog and two-stage Runge-Kutta methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from .errors import InputError
from .protocols import Array, State
from .stencils import Stencil, check_count, check_times, make_stencil, widened


def leapfrog_filter(num_steps: int, h: float, first: float = 0.5) -> Stencil:
    """Map raw gradients of leapfrog with an Euler start to g_n; order 2 at every node.

        g_n = (G_{n-1} + 2 G_n + G_{n+1}) / 4
        g_0 = (2 G_0 + 3 G_1 - G_3) / 4,   g_N = (2 G_N + 3 G_{N-1} - G_{N-3}) / 4

    with G_0 = raw_0 / (h / 2), since the Euler step weighs half. Where the solve ends, G_N = 0; where the loss reads
    the state and the solve goes on, G_N holds what comes from later times, and g_N is the value before the jump. For
    gradients of z_N, not of Gragg's smoothed end, which need no filter.

    Args:
        num_steps: N >= 4.
        h: the step size, not zero.
        first: the weight of the first node, in h: 1/2 for the Euler start, 1 for a piece that follows another one.

    Returns:
        The map from the N + 1 rows raw_0 .. raw_N to g_0 .. g_N.

    Raises:
        InputError: num_steps is not an integer >= 4.

    Example:
        >>> leapfrog_filter(4, 0.25).weights[2]
        (1.0, 2.0, 1.0)
    """
    check_count("leapfrog_filter", "num_steps", num_steps, 4)
    return _leapfrog(num_steps, h, {0: {0: 2, 1: 3, 3: -1}, num_steps: _filter_end(num_steps)}, first)


def leapfrog_filter_descent(num_steps: int, h: float, first: float = 0.5) -> Stencil:
    """Map raw gradients of leapfrog with an Euler start to g_n against which the discrete loss does not increase.

        g_n = (G_{n-1} + 2 G_n + G_{n+1}) / 4,   g_0 = (G_0 + G_1) / 2,   g_N = (G_{N-1} + G_N) / 2

    Order 2 inside, 1 at both ends. Positive semidefinite in the inner product of the trapezoid rule, whose weights w
    are ``leapfrog_weights``: sum_n w_n g_n . G_n = sum_n g_n . raw_n >= 0 for h > 0.

    Args:
        num_steps: N >= 2.
        h: the step size, not zero.
        first: as for ``leapfrog_filter``.

    Returns:
        The map from the N + 1 rows raw_0 .. raw_N to g_0 .. g_N.

    Raises:
        InputError: num_steps is not an integer >= 2.

    Example:
        >>> leapfrog_filter_descent(2, 1.0).weights[0]
        (1.0, 0.5, 0.0)
    """
    check_count("leapfrog_filter_descent", "num_steps", num_steps, 2)
    ends = {0: {0: 2, 1: 2}, num_steps: {num_steps - 1: 2, num_steps: 2}}
    return _leapfrog(num_steps, h, ends, first)


def leapfrog_filter_any_start(num_steps: int, h: float) -> Stencil:
    """Map raw gradients of leapfrog, started by any one-step method, to g_n; order 2 at every node.

        g_1 = (2 G_1 + 3 G_2 - G_4) / 4,   g_0 = (3 G_1 + 4 G_2 - G_3 - 2 G_4) / 4,   the rest as ``leapfrog_filter``

    No gradient of the start step may be in raw_1 .. raw_N: if it has a stage at t_1, without what that one sends.

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
    return _leapfrog(num_steps, h, {**start, num_steps: _filter_end(num_steps)}, 0.5)


def _filter_end(num_steps: int) -> dict[int, float]:
    return {num_steps: 2, num_steps - 1: 3, num_steps - 3: -1}


def _leapfrog(num_steps: int, h: float, ends: Mapping[int, Mapping[int, float]], first: float) -> Stencil:
    """The inner rows and the given ones, whose weights are those of 4 G_n."""
    inner = {n: {n - 1: 1, n: 2, n + 1: 1} for n in range(1, num_steps)}
    rows = {**inner, **ends}
    scales = {0: 1 / (4 * h * first)}
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


def leapfrog_adjoint_average(*counts: int) -> Stencil:
    """Map leapfrog's adjoints lam_0 .. lam_N to p_n, so that g_n = (df/dtheta)_n^T p_n is of order 2 at every node.

        p_n = (lam_n + 2 lam_{n+1} + lam_{n+2}) / 2,   p_0 = lam_0,   p_N = lam_N,   lam_{N+1} = 0

    lam_n is the total derivative dL/dz_n: lam_n = lam_{n+2} + 2 h J_n^T lam_{n+1}. Any start step. Where the loss reads
    z_n between two pieces, the rows hold both lam_n, without its cotangent, and lam_n^- with it. Then p_n takes lam_n
    at its own place and lam^- ahead, and p_n^- = p_n + lam_n^- - lam_n.

    Args:
        counts: the number of steps of every piece, N >= 2 in all.

    Returns:
        The map of the rows lam_0 .. lam_n of the pieces, one after the other, the last of each being lam^-, to as many
        rows p; a VJP of the field for each turns them into g_n.

    Raises:
        InputError: the steps are not integers, or not two in all.

    Example:
        >>> leapfrog_adjoint_average(2).weights
        ((1.0, 0.0), (0.5, 1.0), (1.0, 0.0))
    """
    check_count("leapfrog_adjoint_average", "num_steps", sum(counts), 2)
    here: list[int] = []  # the row of lam_n
    ahead: list[int] = []  # the row of lam_n^-, the same where there is no jump
    for count in counts:
        start = ahead[-1] + 1 if ahead else 0
        here[-1:] = range(start, start + count + 1)
        ahead += range(start + bool(ahead), start + count + 1)
    after = [
        {here[n]: 0.5, **{ahead[m]: w for m, w in ((n + 1, 1.0), (n + 2, 0.5)) if m < len(here)}}
        for n in range(len(here))
    ]
    after[0], after[-1] = {0: 1.0}, {ahead[-1]: 1.0}
    rows: list[dict[int, float]] = []
    for n, p in enumerate(after):
        if ahead[n] != here[n]:
            rows.append({**p, ahead[n]: 1.0, here[n]: p[here[n]] - 1.0})
        rows.append(p)
    return make_stencil(rows)


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
        count = max(1, (leaf.shape[0] - 2) // 4) + 2
        first, last = (
            0.5 * part[1:-1, ...] - 0.25 * (part[:-2, ...] + part[2:, ...])
            for part in (leaf[:count, ...], leaf[-count:, ...])
        )
        ends.append((xp.max(xp.abs(first)), xp.max(xp.abs(last))))
    return ends


def sawtooth_growth(ends: Sequence[tuple[float, float]]) -> float:
    """By what factor a sawtooth grows from the end to the start of the interval, from what ``sawtooth_ends`` gives.

    Both are largest where they begin: three quarters of the interval apart.
    """
    first, last = (max((pair[i] for pair in ends), default=0.0) for i in (0, 1))
    return (first / max(last, 1e-300)) ** (4 / 3)
