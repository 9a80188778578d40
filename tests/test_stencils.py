"""Stencils: their weights digit by digit and on polynomials, and their application on every array library."""

import math
from fractions import Fraction
from typing import Any

import array_api_compat.torch as torch_xp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from janode.core.errors import InputError
from janode.core.stencils import Stencil, apply_stencil, hermite, interpolate, make_stencil, reconstruct
from tests.test_layers import TARGETS, Target, to_numpy

F = Fraction


def dense(stencil: Stencil, num_rows: int) -> np.ndarray:
    """The map as a matrix."""
    matrix = np.zeros((len(stencil.indices), num_rows))
    for m, (indices, weights) in enumerate(zip(stencil.indices, stencil.weights, strict=True)):
        np.add.at(matrix[m], list(indices), weights)
    return matrix


# Finite-volume weights from the literature, for cells of size 1: (order, target, first cell, weights, divisor).
# Ten cells; the target 5 is a node inside, 5.5 the middle of a cell.
KNOWN = [
    (2, F(5), 4, (1, 1), 2),
    (3, F(5), 4, (2, 5, -1), 6),
    (4, F(5), 3, (-1, 7, 7, -1), 12),
    (5, F(5), 3, (-3, 27, 47, -13, 2), 60),
    (2, F(11, 2), 5, (1, 0), 1),
    (3, F(11, 2), 4, (-1, 26, -1), 24),
    (4, F(11, 2), 4, (-1, 26, -1, 0), 24),
    (1, F(5), 5, (1,), 1),
    (2, F(0), 0, (3, -1), 2),
    (3, F(0), 0, (11, -7, 2), 6),
    (4, F(0), 0, (25, -23, 13, -3), 12),
    (5, F(0), 0, (137, -163, 137, -63, 12), 60),
    (2, F(10), 8, (-1, 3), 2),
    (3, F(10), 7, (2, -7, 11), 6),
    (4, F(10), 6, (-3, 13, -23, 25), 12),
    (5, F(10), 5, (12, -63, 137, -163, 137), 60),
    # The two-stage family: (3/2 - alpha) S_n + (alpha - 1/2) S_{n+1}.
    (2, F(5) + F(2, 3), 5, (5, 1), 6),
    (2, F(6), 5, (1, 1), 2),
    (2, F(5) + F(1, 4), 4, (1, 3), 4),
    # Beyond the last cell with alpha > 1/2 the ghost cell is linear: S_10 = 2 S_9 - S_8.
    (2, F(9) + F(2, 3), 8, (-1, 7), 6),
]


@pytest.mark.parametrize(("order", "target_time", "first", "weights", "divisor"), KNOWN)
def test_reconstruction_has_the_known_weights(
    order: int, target_time: Fraction, first: int, weights: tuple[int, ...], divisor: int
) -> None:
    edges = [F(n) for n in range(11)]
    expected = Stencil((tuple(range(first, first + order)),), (tuple(w / divisor for w in weights),))
    assert reconstruct(edges, [target_time], order) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("direction", [1, -1], ids=["forward", "backward"])
def test_reconstruction_on_a_rounded_uniform_grid(order: int, direction: int) -> None:
    """The weights of 0.1 n are those of n over 0.1, to the rounding of the times, whatever their order."""
    exact = reconstruct(range(51), [*range(51), 20.5], order)
    rounded = reconstruct(
        [direction * 0.1 * n for n in range(51)], [*(direction * 0.1 * n for n in range(51)), direction * 2.05], order
    )
    assert rounded.indices == exact.indices
    np.testing.assert_allclose(direction * 0.1 * np.array(rounded.weights), exact.weights, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_decreasing_times_read_the_same_rows(order: int) -> None:
    times, targets = [0.0, 0.1, 0.5, 0.6, 1.3, 1.5, 2.9], [0.0, 0.3, 0.55, 0.9, 1.3, 2.0]
    forward = reconstruct(times, targets, order)
    backward = reconstruct([-t for t in times], [-t for t in targets], order)
    assert backward.indices == forward.indices
    np.testing.assert_array_equal(np.array(backward.weights), -np.array(forward.weights))


def test_a_uniform_grid_shares_its_weights() -> None:
    times = [2.0 * n / 1000 for n in range(1001)]
    assert len(set(reconstruct(times, times, 5).weights)) <= 15


# Exactness on polynomials.


def test_order_1_is_constant_in_each_cell() -> None:
    assert reconstruct([0.0, 1.0, 3.0], [0.0, 0.5, 1.0, 2.9, 3.0], 1).indices == ((0,), (0,), (1,), (1,), (1,))


@st.composite
def grids(draw: st.DrawFn, least: int) -> list[float]:
    """Times of uneven steps, increasing or decreasing, anywhere."""
    steps = draw(st.lists(st.floats(0.1, 1.0), min_size=least, max_size=least + 6))
    start, sign = draw(st.floats(-3.0, 3.0)), draw(st.sampled_from([1.0, -1.0]))
    return [start + sign * sum(steps[:n]) for n in range(len(steps) + 1)]


def monomials(times: Any, grid: list[float], degree: int) -> np.ndarray:
    """((t - t_0) / (t_N - t_0))^d for all times and d <= degree: shape (times, degree + 1)."""
    x = (np.asarray(times) - grid[0]) / (grid[-1] - grid[0])
    return np.stack([x**d for d in range(degree + 1)], axis=1)


def targets_in(grid: list[float], fractions: list[float]) -> list[float]:
    """The nodes, and places between the ends."""
    return [*grid, *(grid[0] + fraction * (grid[-1] - grid[0]) for fraction in fractions)]


fractions = st.lists(st.floats(0.0, 1.0), max_size=4)
orders = st.integers(1, 6)


def assert_exact(stencil: Stencil, rows: np.ndarray, expected: np.ndarray) -> None:
    """The map of these rows, of entries below about 1, to the rounding that its weights amplify."""
    matrix = dense(stencil, len(rows))
    amplification = np.sum(np.abs(matrix), axis=1, keepdims=True)
    assert np.all(np.abs(matrix @ rows - expected) <= 1e-13 * amplification)


@given(orders.flatmap(lambda order: st.tuples(st.just(order), grids(order))), fractions)
def test_reconstruction_is_exact_for_polynomials(case: tuple[int, list[float]], places: list[float]) -> None:
    order, grid = case
    targets = targets_in(grid, places)
    length = grid[-1] - grid[0]
    cells = length * np.diff(monomials(grid, grid, order)[:, 1:], axis=0) / np.arange(1, order + 1)
    assert_exact(reconstruct(grid, targets, order), cells, monomials(targets, grid, order - 1))


@given(st.integers(2, 6).flatmap(lambda order: st.tuples(st.just(order), grids(order - 1))), fractions)
def test_interpolation_is_exact_for_polynomials(case: tuple[int, list[float]], places: list[float]) -> None:
    order, grid = case
    targets = targets_in(grid, places)
    rows, expected = (monomials(times, grid, order - 1) for times in (grid, targets))
    assert_exact(interpolate(grid, targets, order), rows, expected)


@given(st.integers(1, 8).flatmap(lambda order: st.tuples(st.just(order), grids(order))), fractions)
def test_hermite_is_exact_for_polynomials(case: tuple[int, list[float]], places: list[float]) -> None:
    order, grid = case
    degree = 2 * max(2, math.ceil(order / 2)) - 1
    targets = targets_in(grid, places)
    values = monomials(grid, grid, degree)
    slopes = np.concatenate([np.zeros((len(grid), 1)), values[:, :-1] * np.arange(1, degree + 1)], axis=1)
    rows = np.concatenate([values, slopes / (grid[-1] - grid[0])])
    assert_exact(hermite(grid, targets, order), rows, monomials(targets, grid, degree))


@pytest.mark.parametrize(
    ("stencil", "num_rows", "power", "value"),
    [
        (reconstruct(range(5), [1.25], 3), 4, 3, 1.25**3),
        (interpolate(range(5), [1.25], 3), 5, 3, 1.25**3),
        (hermite(range(5), [1.25], 4), 10, 4, 1.25**4),
        (hermite(range(5), [1.25], 5), 10, 6, 1.25**6),
    ],
    ids=["reconstruct", "interpolate", "hermite cubic", "hermite quintic"],
)
def test_the_next_degree_is_not_exact(stencil: Stencil, num_rows: int, power: int, value: float) -> None:
    t = np.arange(5.0)
    integrals = np.diff(t ** (power + 1)) / (power + 1)
    rows = {4: integrals, 5: t**power, 10: np.concatenate([t**power, power * t ** (power - 1)])}[num_rows]
    assert abs((dense(stencil, num_rows) @ rows)[0] - value) > 1e-2


def test_hermite_reads_one_cell_to_order_4_and_the_nearest_two_to_order_6() -> None:
    assert hermite(range(6), [2.4], 4).indices == ((2, 3, 8, 9),)
    assert hermite(range(6), [2.4, 2.6], 5).indices == ((1, 2, 3, 7, 8, 9), (2, 3, 4, 8, 9, 10))


def test_values_at_nodes_are_the_rows_themselves() -> None:
    times = [0.0, 0.1, 0.3, 0.7, 1.1]
    assert np.array_equal(dense(interpolate(times, times, 3), 5), np.eye(5))
    assert np.array_equal(dense(hermite(times, times, 4), 10), np.eye(5, 10))


# Application.


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_apply_equals_the_matrix(target: Target) -> None:
    stencil = make_stencil([{0: 0.5, 3: -2.0}, {2: 1.5}, {1: 1.0, 2: 3.0, 4: -0.25}])
    values = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32).astype(float)
    expected = np.einsum("mr,r...->m...", dense(stencil, 5), values)
    call = jax.jit(apply_stencil, static_argnums=(0, 1)) if target.is_jitted else apply_stencil
    with target.enter():
        rows = tuple(target.asarray(part) for part in (values, values[:, 0, 0], np.zeros((5, 0))))
        got = call(target.xp, stencil, rows)
    assert [leaf.shape for leaf in got] == [(3, 2, 3), (3,), (3, 0)]
    assert [(leaf.dtype, leaf.device) for leaf in got] == [(row.dtype, row.device) for row in rows]
    assert type(got[0]) is type(rows[0])
    tolerance = 1e-14 if target.dtype == "float64" else 1e-5
    np.testing.assert_allclose(to_numpy(got[0]), expected, rtol=0.0, atol=tolerance)
    np.testing.assert_allclose(to_numpy(got[1]), expected[:, 0, 0], rtol=0.0, atol=tolerance)


F64_TARGETS = {name: target for name, target in TARGETS.items() if target.dtype == "float64"}


@pytest.mark.parametrize("target", F64_TARGETS.values(), ids=F64_TARGETS)
def test_complex_rows_stay_complex(target: Target) -> None:
    stencil = make_stencil([{0: 0.5, 1: -2.0}])
    with target.enter():
        rows = target.xp.asarray(np.array([1.0 + 2.0j, 0.5j]), dtype=target.xp.complex128, device=target.device)
        (got,) = apply_stencil(target.xp, stencil, (rows,))
        assert got.dtype == rows.dtype
        assert complex(got[0, ...]) == 0.5


def test_half_precision_is_summed_in_single() -> None:
    """1 + 2^-9 - 1 is lost in bfloat16, whose numbers at 1 are 2^-7 apart; and a weight may exceed float16."""
    stencil = make_stencil([{0: 1.0, 1: 2.0**-9, 2: -1.0}])
    (got,) = apply_stencil(torch_xp, stencil, (torch.ones(3, dtype=torch.bfloat16),))
    assert got.dtype == torch.bfloat16
    assert got.item() == 2.0**-9
    (got,) = apply_stencil(torch_xp, make_stencil([{0: 2.0**17}]), (torch.full((1,), 2.0**-9, dtype=torch.float16),))
    assert (got.dtype, got.item()) == (torch.float16, 256.0)


def test_torch_differentiates_it() -> None:
    stencil = make_stencil([{0: 0.5, 1: -2.0}, {1: 3.0}])
    rows = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    (got,) = apply_stencil(torch_xp, stencil, (rows,))
    (bar,) = torch.autograd.grad(got, rows, torch.tensor([1.0, 10.0], dtype=torch.float64))
    assert bar.tolist() == [0.5, 28.0]


def test_jax_differentiates_and_batches_it() -> None:
    stencil = make_stencil([{0: 0.5, 1: -2.0}, {1: 3.0}])
    matrix = jax.jit(jax.jacobian(lambda rows: apply_stencil(jnp, stencil, (rows,))[0]))(jnp.zeros(2))
    assert matrix.tolist() == [[0.5, -2.0], [0.0, 3.0]]
    batch = jax.vmap(lambda rows: apply_stencil(jnp, stencil, (rows,))[0])(jnp.eye(2))
    assert batch.tolist() == [[0.5, 0.0], [-2.0, 3.0]]


def test_scaled_multiplies_the_results() -> None:
    stencil = make_stencil([{0: 0.5, 1: -2.0}, {1: 3.0}]).scaled([2.0, -1.0])
    assert np.array_equal(dense(stencil, 2), [[1.0, -4.0], [0.0, -3.0]])


# Refusals.


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: reconstruct([0, 1, 2], [0], 3), "reconstruct: order 3 must have at least 3 steps; got 2."),
        (lambda: reconstruct([0, 1, 2], [0], 0), "reconstruct: order must be an integer >= 1; got 0."),
        (lambda: reconstruct([0, 1, 2], [0], 1.0), "reconstruct: order must be an integer >= 1; got 1.0."),
        (lambda: reconstruct([0, 1, 1], [0], 1), "reconstruct: times must be strictly increasing or strictly decr"),
        (lambda: reconstruct([0, math.nan, 1], [0], 1), "reconstruct: times must be strictly increasing or strict"),
        (lambda: interpolate([0, 1], [0], 3), "interpolate: times must be at least 3 for this order; got 2."),
        (lambda: interpolate([0, 1], [0], 1), "interpolate: order must be an integer >= 2; got 1."),
        (lambda: interpolate([0, 2, 1], [0], 2), "interpolate: times must be strictly increasing or strictly decr"),
        (lambda: hermite([0, 1], [0], 5), "hermite: times must be at least 3 for this order; got 2."),
        (lambda: hermite([0], [0], 1), "hermite: times must be at least 2 for this order; got 1."),
        (lambda: hermite([0, 1], [0], True), "hermite: order must be an integer >= 1; got True."),
        (lambda: hermite([1, 1], [0], 4), "hermite: times must be strictly increasing or strictly decreasing"),
    ],
)
def test_refusals(call: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("rows", [np.zeros((2, 5)), np.zeros(())], ids=["short", "0-d"])
def test_too_few_rows_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"^apply_stencil: rows must have a leading axis of at least 3; got shape \("):
        apply_stencil(np, Stencil(((2,),), ((1.0,),)), (rows,))
