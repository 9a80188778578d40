"""Corrections formula by formula: what comes out exactly, what is refused, and the costate on every library."""

import math
from collections.abc import Callable
from typing import Any

import array_api_compat.torch as torch_xp
import array_api_strict
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from janode.backends.eager import EagerBackend
from janode.backends.registry import find_backend
from janode.core.adams_corrections import adams_bashforth_costate, adams_bashforth_filter
from janode.core.corrections import (
    divide,
    leapfrog_adjoint_average,
    leapfrog_filter,
    leapfrog_filter_any_start,
    leapfrog_filter_descent,
    leapfrog_weights,
    oscillation,
    trapezoid_weights,
)
from janode.core.errors import InputError
from janode.core.multistep import WEIGHTS
from janode.core.stencils import Stencil
from tests.test_layers import TARGETS, Target, strict_jax, to_numpy
from tests.test_stencils import dense

torch.set_num_threads(1)


def raw_of(g: np.ndarray, sawtooth: np.ndarray, h: float) -> np.ndarray:
    """raw_n of leapfrog with an Euler start whose G_n = g_n + (-1)^n sawtooth_n; the sawtooth makes G_N = 0."""
    n = np.arange(len(g))
    return (g + (-1.0) ** n * sawtooth) * np.array([h / 2, *[h] * (len(g) - 1)])


@pytest.mark.parametrize(
    ("make", "num_steps"),
    [(leapfrog_filter, 4), (leapfrog_filter, 7), (leapfrog_filter_any_start, 5), (leapfrog_filter_any_start, 8)],
)
@pytest.mark.parametrize("h", [0.125, -0.5])
def test_leapfrog_filters_are_exact_for_a_line_and_a_sawtooth(make: Any, num_steps: int, h: float) -> None:
    """Order 2 is this: G_n = g(t_n) + (-1)^n s(t_n) + O(h^2), g and s smooth, with G_N = 0."""
    n = np.arange(num_steps + 1.0)
    g = 3.0 - 0.25 * n
    sawtooth = -((-1.0) ** num_steps) * g[-1] + 2.0 * (n - num_steps)
    raw = raw_of(g, sawtooth, h)
    assert abs(raw[-1]) < 1e-15
    np.testing.assert_allclose(dense(make(num_steps, h), num_steps + 1) @ raw, g, rtol=0.0, atol=1e-13)


def test_the_filter_for_any_start_does_not_read_the_start() -> None:
    assert not np.any(dense(leapfrog_filter_any_start(6, 0.5), 7)[:, 0])


def smallest_eigenvalue(stencil: Stencil) -> float:
    """Of the quadratic form sum_n g_n raw_n, raw_N = 0."""
    matrix = dense(stencil, len(stencil.indices))[:-1, :-1]
    return float(np.min(np.linalg.eigvalsh(matrix + matrix.T)))


@pytest.mark.parametrize("num_steps", [2, 3, 10, 31])
def test_the_descent_filter_is_positive_semidefinite(num_steps: int) -> None:
    """sum_n g_n raw_n >= 0 for all raw; leapfrog's other filter, of order 2 at the ends, is not so."""
    assert smallest_eigenvalue(leapfrog_filter_descent(num_steps, 0.5)) >= -1e-13


def test_the_other_filter_is_not_positive_semidefinite() -> None:
    assert smallest_eigenvalue(leapfrog_filter(10, 0.5)) < -0.05


def test_the_descent_filter_has_its_stated_rows() -> None:
    expected = np.array([[4, 2, 0, 0, 0], [2, 2, 1, 0, 0], [0, 1, 2, 1, 0], [0, 0, 1, 2, 1], [0, 0, 0, 2, 2]]) / 4
    assert np.array_equal(dense(leapfrog_filter_descent(4, 1.0), 5), expected)


def test_the_adjoint_average_has_its_stated_rows() -> None:
    expected = np.array([[2, 0, 0, 0, 0], [0, 1, 2, 1, 0], [0, 0, 1, 2, 1], [0, 0, 0, 1, 2], [0, 0, 0, 0, 2]]) / 2
    assert np.array_equal(dense(leapfrog_adjoint_average(4), 5), expected)


def test_the_adjoint_average_of_two_pieces_has_its_stated_rows() -> None:
    """Rows: lam_0, lam_1, lam_2^-, then lam_2, lam_3, lam_4; before the jump what it adds is added."""
    expected = np.array(
        [
            [2, 0, 0, 0, 0, 0],
            [0, 1, 2, 0, 1, 0],
            [0, 0, 2, -1, 2, 1],
            [0, 0, 0, 1, 2, 1],
            [0, 0, 0, 0, 1, 2],
            [0, 0, 0, 0, 0, 2],
        ]
    )
    assert np.array_equal(dense(leapfrog_adjoint_average(2, 2), 6), expected / 2)


@pytest.mark.parametrize("make", [leapfrog_filter, leapfrog_filter_descent])
def test_the_first_row_of_a_piece_that_follows_has_full_weight(make: Any) -> None:
    start, following = (dense(make(5, 0.5, weight), 6) for weight in (0.5, 1.0))
    assert np.array_equal(start[:, 0], 2.0 * following[:, 0])
    assert np.array_equal(start[:, 1:], following[:, 1:])


def test_leapfrog_weights_are_those_of_the_trapezoid_rule() -> None:
    assert leapfrog_weights(4, 0.5) == trapezoid_weights([0.0, 0.5, 1.0, 1.5, 2.0])
    assert leapfrog_weights(1, -0.5) == (-0.25, -0.25)


def test_trapezoid_weights_integrate_lines_on_any_grid() -> None:
    times = np.array([2.0, 1.7, 0.9, -0.5])
    weights = np.array(trapezoid_weights(times.tolist()))
    np.testing.assert_allclose([np.sum(weights), np.sum(weights * times)], [-2.5, (0.25 - 4.0) / 2], rtol=1e-15)


# Runge-Kutta: division.


def test_divide_by_stage() -> None:
    assert np.array_equal(dense(divide([0.5, 0.25], [0.25, 0.75]), 4), np.diag([8.0, 8 / 3, 16.0, 16 / 3]))


def test_divide_by_shared_node() -> None:
    """Heun's method: the sums of h b are the trapezoid weights."""
    weights = trapezoid_weights([0.0, 0.5, 0.75])
    assert np.array_equal(dense(divide([0.5, 0.25], [0.5, 0.5], [[0, 1], [1, 2]]), 3), np.diag(1 / np.array(weights)))


# Adams-Bashforth.


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("extra", [0, 1, 7])
def test_adams_filter_is_exact_for_polynomials_and_reads_nothing_else(order: int, extra: int) -> None:
    num_steps, h = order * order + order - 1 + extra, 0.25
    n = np.arange(num_steps + 1.0)
    g = (n - 3.0) ** (order - 1) + 2.0
    raw = np.full(num_steps + 1, 1e6)
    kept = slice(order, num_steps - order * (order - 1))
    raw[kept], raw[-1] = h * g[kept], 0.0
    places = [*n, 0.5, 1.25]
    matrix = dense(adams_bashforth_filter(num_steps, order, h, places), num_steps + 3)
    expected = [*g, *((np.array([0.5, 1.25]) - 3.0) ** (order - 1) + 2.0)]
    got = matrix @ np.concatenate([[g[0]], raw, [g[-1]]])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert np.array_equal(got[kept], raw[kept] / h)
    default = adams_bashforth_filter(num_steps, order, h)
    assert np.array_equal(dense(default, num_steps + 3), matrix[: num_steps + 1])


def rotation(xp: Any, rates: Any) -> Callable[..., Any]:
    """J_n^T p and a row (p, sum of p) for p' = -J^T p, J_n = rate_n [[0, 1], [-1, 0]]; n may be traced."""

    def pull(n: Any, p: Any) -> Any:
        rate = rates[n, ...]
        turned = xp.stack([-p[0][1, ...], p[0][0, ...]])
        return (xp.broadcast_to(rate, p[0].shape) * turned,), (p[0], xp.sum(p[0]))

    return pull


def angles(num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """rate(t) = cos(t) on [0, 2] at t_n, and its integral from t_n to 2."""
    t = 2.0 * np.arange(num_steps + 1) / num_steps
    return np.cos(t), np.sin(2.0) - np.sin(t)


def expected_costate(num_steps: int) -> np.ndarray:
    angle = angles(num_steps)[1]
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_costate_is_of_the_order_of_its_weights(order: int) -> None:
    found = []
    for num_steps in (80, 160, 320):
        pull = rotation(np, angles(num_steps)[0])
        p_end = (np.array([1.0, 0.0]),)
        (p, total), first = adams_bashforth_costate(
            find_backend("numpy"), pull, num_steps, WEIGHTS[order], 2.0 / num_steps, p_end
        )
        assert np.array_equal(first[0], p[0])
        np.testing.assert_allclose(total, np.sum(p, axis=1), rtol=0.0, atol=1e-15)
        found.append(np.max(np.abs(p - expected_costate(num_steps))))
    slope = -np.polyfit(np.log([80, 160, 320]), np.log(found), 1)[0]
    assert slope == pytest.approx(order, abs=0.15), found


@pytest.mark.parametrize("num_steps", [3, 4, 25])
@pytest.mark.parametrize(("order", "more"), [(1, 1), (2, 1), (3, 4), (4, 4)])
def test_costate_calls_pull_once_per_node_and_thrice_more_from_order_3_on(
    order: int, more: int, num_steps: int
) -> None:
    rotate, seen = rotation(np, angles(num_steps)[0]), []

    def pull(n: int, p: Any) -> Any:
        seen.append(n)
        return rotate(n, p)

    weights = WEIGHTS.get(order, (1.0,))
    adams_bashforth_costate(find_backend("numpy"), pull, num_steps, weights, 0.1, (np.array([1.0, 0.0]),))
    assert len(seen) == num_steps + more
    assert set(seen) == set(range(num_steps + 1))


def decay(order: int) -> np.ndarray:
    """p for J = -1 on five steps of 0.1."""
    backend = find_backend("numpy")
    (p,), _ = adams_bashforth_costate(backend, lambda n, p: ((-p[0],), p), 5, WEIGHTS[order], 0.1, (np.array(1.0),))
    return p


def test_costate_of_order_2_starts_by_a_step_of_order_1() -> None:
    """The row of p_{N-1} is that of Euler's value; p_{N-2} goes on from its correction."""
    p = decay(2)
    corrected = p[5] - 0.05 * (p[5] + p[4])
    np.testing.assert_allclose(p[[4, 3]], [0.9, corrected - 0.1 * (1.5 * p[4] - 0.5 * p[5])], rtol=1e-15)


@pytest.mark.parametrize("order", [3, 4])
def test_costate_of_higher_order_starts_by_the_classical_method(order: int) -> None:
    p = decay(order)
    factor = 1 - 0.2 + 0.2**2 / 2 - 0.2**3 / 6 + 0.2**4 / 24
    between = (1 + factor) / 2 + 0.2 / 8 * (-1 + factor)
    third = factor - 0.1 * np.dot(WEIGHTS[3], [factor, between, 1.0])
    np.testing.assert_allclose(p[[5, 4, 3, 2]], [1.0, between, factor, third], rtol=1e-15)
    np.testing.assert_allclose(p[1], p[2] - 0.1 * np.dot(WEIGHTS[order], p[2 : 2 + order]), rtol=1e-15)


def costate_on(backend: Any, xp: Any, num_steps: int = 20) -> Any:
    rates = xp.asarray(angles(num_steps)[0])
    p_end = (xp.asarray(np.array([1.0, 0.0])),)
    return adams_bashforth_costate(backend, rotation(xp, rates), num_steps, WEIGHTS[3], 0.1, p_end)[0][0]


LIBRARIES = {
    "strict": lambda: costate_on(EagerBackend(array_api_strict, "strict"), array_api_strict),
    "torch": lambda: costate_on(find_backend("torch"), torch_xp),
    "jax": lambda: costate_on(find_backend("jax"), jnp),
    "jax-jit": lambda: jax.jit(lambda: costate_on(find_backend("jax"), jnp))(),
}


@pytest.mark.parametrize("compute", LIBRARIES.values(), ids=LIBRARIES)
def test_costate_is_the_same_on_every_library(compute: Callable[[], Any]) -> None:
    with strict_jax():
        got = compute()
    np.testing.assert_allclose(to_numpy(got), costate_on(find_backend("numpy"), np), rtol=0.0, atol=1e-14)


def test_costate_keeps_single_precision() -> None:
    p_end = (np.array([1.0, 0.0], dtype=np.float32),)
    pull = rotation(np, angles(20)[0].astype(np.float32))
    (p, _), first = adams_bashforth_costate(find_backend("numpy"), pull, 20, WEIGHTS[2], 0.1, p_end)
    assert p.dtype == first[0].dtype == np.float32


# Oscillation.

SAWTOOTH = (-1.0) ** np.arange(9)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize(
    ("leaves", "expected"),
    [
        ([SAWTOOTH], 1.0),
        ([np.arange(9.0) - 1.0], 0.0),
        ([np.zeros(9)], 0.0),
        # Seven inner rows: deviations of 7 in the sawtooth; sizes 7 and 4 times 7 ones.
        ([SAWTOOTH, np.full((9, 2, 2), 1.0)], math.sqrt(7 / 35)),
        # A ripple on a constant: deviation 0.1, size 1 + 0.1 (-1)^k, whose squares are 1.01 on average but for one row.
        ([1.0 + 0.1 * SAWTOOTH], math.sqrt(0.07 / (3 * 1.21 + 4 * 0.81))),
    ],
    ids=["sawtooth", "line", "zero", "two leaves", "ripple"],
)
def test_oscillation(target: Target, leaves: list[np.ndarray], expected: float) -> None:
    with target.enter():
        rows = tuple(target.asarray(leaf) for leaf in leaves)
        call = jax.jit(oscillation, static_argnums=0) if target.is_jitted else oscillation
        got = call(target.xp, rows)
        assert (got.shape, got.dtype, got.device) == ((), rows[0].dtype, rows[0].device)
    assert float(to_numpy(got)) == pytest.approx(expected, abs=1e-12 if target.dtype == "float64" else 1e-6)


def test_oscillation_of_complex_and_half_precision_rows() -> None:
    got = oscillation(np, (SAWTOOTH * (1.0 + 1.0j),))
    assert (got.dtype, float(got)) == (np.float64, pytest.approx(1.0))
    half = oscillation(torch_xp, (torch.tensor(SAWTOOTH, dtype=torch.bfloat16),))
    assert (half.dtype, float(half)) == (torch.float32, 1.0)


def test_oscillation_of_a_smooth_function_falls_with_the_square_of_the_step() -> None:
    small, smaller = (float(oscillation(np, (np.cos(np.linspace(0.0, 3.0, n)),))) for n in (101, 201))
    assert small / smaller == pytest.approx(4.0, rel=0.05)


# Refusals.


def costate_of_two_steps() -> Any:
    return adams_bashforth_costate(find_backend("numpy"), lambda n, p: (p, p), 2, WEIGHTS[4], 0.1, (np.ones(1),))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: leapfrog_filter(3, 0.1), "leapfrog_filter: num_steps must be an integer >= 4; got 3."),
        (lambda: leapfrog_filter_descent(1, 0.1), "leapfrog_filter_descent: num_steps must be an integer >= 2; got 1."),
        (
            lambda: leapfrog_filter_any_start(4, 0.1),
            "leapfrog_filter_any_start: num_steps must be an integer >= 5; got",
        ),
        (lambda: leapfrog_weights(0, 0.1), "leapfrog_weights: num_steps must be an integer >= 1; got 0."),
        (lambda: leapfrog_adjoint_average(1), "leapfrog_adjoint_average: num_steps must be an integer >= 2; got 1."),
        (
            lambda: divide([0.1], [0.0, 1.0]),
            "divide: b must have no weights that are or add up to zero at a node; got b_1 = ",
        ),
        (lambda: divide([0.1], [0.5, -0.5, 1.0], [[0, 0, 1]]), "divide: b must have no weights that are or add up to "),
        (lambda: adams_bashforth_filter(18, 4, 0.1), "adams_bashforth_filter: num_steps must be an integer >= 19; got"),
        (lambda: adams_bashforth_filter(18, 1, 0.1), "adams_bashforth_filter: order must be an integer >= 2; got 1."),
        (costate_of_two_steps, "adams_bashforth_costate: num_steps must be an integer >= 3; got 2."),
        (lambda: trapezoid_weights([0.0]), "trapezoid_weights: times must be at least 2; got 1."),
        (lambda: trapezoid_weights([0.0, 1.0, 1.0]), "trapezoid_weights: times must be strictly increasing or strict"),
        (lambda: oscillation(np, (np.zeros((2, 3)),)), "oscillation: rows must have a leading axis of at least 3; got"),
        (lambda: oscillation(np, (np.zeros(()),)), "oscillation: rows must have a leading axis of at least 3; got"),
    ],
)
def test_refusals(call: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).startswith(text)


def test_divide_names_all_stages_of_a_node_without_weight() -> None:
    with pytest.raises(InputError, match=r"got b_1 \+ b_2 = 0\. Use the filter"):
        divide([0.1], [0.5, -0.5, 1.0], [[0, 0, 1]])
