"""Adaptive steps in JAX: gradients against NumPy's and each other's, in batches, and within a memory budget."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax as jo
import janode.numpy

from .adaptive_problems import PARAMS, PENDULUM, TIMES, Y0, pendulum

PRESETS = ("stages", "aca", "symplectic", "restart", "revolve")
LOOSE = {"rtol": 1e-3, "atol": 1e-4}
LONG = jo.PIController(first_step=1.0)
STOPS = jo.PIController(step_ts=[0.7], jump_ts=[0.5, 1.1], first_step=1.0)


def cotangents(*shape: int) -> np.ndarray:
    """A cotangent of the states."""
    return np.random.default_rng(0).normal(size=shape)


@lru_cache
def by_numpy(method: str, save: str, times: str, controller: Any) -> tuple[Any, list[np.ndarray]]:
    """(solution, gradients of y0, params and ts) by NumPy."""
    options: dict[str, Any] = {"method": method, "save": save, "controller": controller, **LOOSE}
    solution, pullback = janode.numpy.solve_vjp(PENDULUM, Y0, TIMES[times], PARAMS, **options)
    gradients = pullback(cotangents(*solution.ys.shape))
    return solution, [gradients.y0, gradients.params, gradients.ts]


def check(method: str, save: str, times: str, controller: Any = LONG, **more: Any) -> None:
    """Compares values, gradients and counts of steps with NumPy's."""
    options: dict[str, Any] = {"method": method, "save": save, "controller": controller, "max_steps": 256, **LOOSE}
    expected, gradients = by_numpy(method, save, times, controller)
    has_stops = bool(controller.step_ts)  # these come with times that are known

    def loss(y0: Any, params: Any, ts: Any) -> Any:
        solution = jo.solve(pendulum, y0, TIMES[times] if has_stops else ts, params, **options, **more)
        return jnp.sum(solution.ys * cotangents(*expected.ys.shape)), solution

    arguments = jnp.asarray(Y0), jnp.asarray(PARAMS), jnp.asarray(TIMES[times])
    wanted = (0, 1) if has_stops else (0, 1, 2)
    got, solution = jax.jit(jax.grad(loss, argnums=wanted, has_aux=True))(*arguments)
    assert int(solution.stats.num_accepted) == expected.stats.num_accepted
    assert int(solution.stats.num_rejected) == expected.stats.num_rejected
    np.testing.assert_allclose(solution.ys, expected.ys, rtol=1e-12, atol=1e-13)
    for one, other in zip(got, gradients, strict=not has_stops):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("adjoint", PRESETS)
def test_steps_values_and_gradients_are_those_of_numpy(adjoint: str, save: str) -> None:
    check("bosh3", save, "many", adjoint=adjoint)


@pytest.mark.parametrize("times", ["two", "reversed"])
def test_other_times(times: str) -> None:
    check("bosh3", "interpolate", times)


@pytest.mark.parametrize("save", ["interpolate", "clip"])
@pytest.mark.parametrize("times", ["many", "reversed"])
def test_forced_times_and_discontinuities(times: str, save: str) -> None:
    check("bosh3", save, times, STOPS)


@pytest.mark.parametrize("method", ["adaptive_heun", "dopri5", "tsit5", "dopri8"])
def test_other_pairs(method: str) -> None:
    check(method, "interpolate", "many")


@pytest.mark.parametrize(("adjoint", "checkpoints"), [("symplectic", 2), ("symplectic", 4), ("aca", 6), ("stages", 4)])
def test_thinned_records_give_the_same_gradient(adjoint: str, checkpoints: int) -> None:
    check("bosh3", "interpolate", "many", adjoint=adjoint, checkpoints=checkpoints)


@pytest.mark.parametrize("adjoint", ["stages"])
def test_complex_states(adjoint: str) -> None:
    def loss(y0: Any, rate: Any, adjoint: str) -> Any:
        field = lambda t, y: rate * y * jnp.cos(t) - 0.1 * y * y  # noqa: E731
        return jnp.sum(jnp.abs(jo.solve(field, y0, [0.0, 0.8, 1.5], adjoint=adjoint, max_steps=64).ys) ** 2)

    gradient = jax.grad(loss, argnums=(0, 1))
    y0, rate = jnp.array([1.0 + 0.5j, -0.3j]), jnp.asarray(0.4 + 2.0j)
    got, expected = gradient(y0, rate, adjoint), gradient(y0, rate, "symplectic")
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)
    # A change of y0 along i times itself: L is real, and JAX's gradient is dL/dx - i dL/dy.
    tiny = 1e-6
    slope = (loss(y0 * (1 + 1j * tiny), rate, "aca") - loss(y0 * (1 - 1j * tiny), rate, "aca")) / (2 * tiny)
    np.testing.assert_allclose(jnp.real(jnp.sum(got[0] * (1j * y0))), slope, rtol=1e-3, atol=1e-4)


def test_all_modes_go_through_the_accepted_steps() -> None:
    """JAX's own derivatives of the steps, by ``backprop``; second ones, too."""

    def last(y0: Any, adjoint: str) -> Any:
        return jo.solve(pendulum, y0, [0.0, 0.5], PARAMS, adjoint=adjoint, max_steps=12, method="bosh3", **LOOSE).ys[-1]

    y0 = jnp.asarray(Y0)
    expected = jax.jacrev(lambda y0: last(y0, "symplectic"))(y0)
    np.testing.assert_allclose(jax.jacfwd(lambda y0: last(y0, "backprop"))(y0), expected, rtol=1e-11)
    np.testing.assert_allclose(jax.jacrev(lambda y0: last(y0, "backprop"))(y0), expected, rtol=1e-11)
    second = jax.jacfwd(jax.jacrev(lambda y0: last(y0, "backprop")[0]))(y0)
    np.testing.assert_allclose(second, second.T, rtol=1e-11)
    assert float(jnp.max(jnp.abs(second))) > 1e-3


# Batches


def stretched(y0: Any, rate: Any, **options: Any) -> jo.Solution[Any]:
    """A problem whose number of steps depends on the sample."""
    return jo.solve(lambda t, y: -rate * (y - jnp.cos(rate * t)), y0, [0.0, 1.0, 2.0], **options)


RATES = jnp.array([0.1, 30.0, 3.0, 0.0])
STATES = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 0.0], [3.0, 1.0]])


@pytest.mark.parametrize(
    ("checkpoints", "adjoint", "save"),
    [(None, "symplectic", "interpolate"), (4, "symplectic", "interpolate"), (4, "stages", "clip")],
)
def test_each_sample_takes_its_own_steps(checkpoints: int | None, adjoint: str, save: str) -> None:
    options: dict[str, Any] = {"max_steps": 256, "checkpoints": checkpoints, "adjoint": adjoint, "save": save, **LOOSE}

    def loss(y0: Any, rate: Any) -> Any:
        solution = stretched(y0, rate, **options)
        return jnp.sum(solution.ys**2), solution

    one = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    got, solutions = jax.jit(jax.vmap(jax.grad(loss, argnums=(0, 1), has_aux=True)))(STATES, RATES)
    alone = [one(y0, rate) for y0, rate in zip(STATES, RATES, strict=True)]
    for name in ("num_accepted", "num_rejected", "num_steps"):
        counts = [int(getattr(solution.stats, name)) for _, solution in alone]
        assert getattr(solutions.stats, name).tolist() == counts
    assert len(set(solutions.stats.num_accepted.tolist())) > 2
    assert int(jnp.max(solutions.stats.num_accepted)) > 16  # more than four records thinned twice
    np.testing.assert_allclose(solutions.ys, [solution.ys for _, solution in alone], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got[0], [gradient[0] for gradient, _ in alone], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(got[1], [gradient[1] for gradient, _ in alone], rtol=1e-11, atol=1e-13)


def test_each_sample_has_its_own_status() -> None:
    """The one that blows up fails alone: its rows are NaN from there on and have no gradient."""

    def loss(y0: Any) -> Any:
        solution = jo.solve(lambda t, y: y * y, y0, [0.0, 0.5, 2.0], max_steps=500, rtol=1e-4)
        return jnp.sum(solution.ys), solution

    starts = jnp.array([[1.0], [0.1], [-1.0]])
    got, solutions = jax.jit(jax.vmap(jax.grad(loss, has_aux=True)))(starts)
    assert solutions.status.tolist() == [4, 0, 0]
    assert jnp.isnan(solutions.ys[:, :, 0]).tolist() == [[False, False, True], [False] * 3, [False] * 3]
    # y = 1 / (1 / y0 - t), dy/dy0 = (y / y0)^2
    np.testing.assert_allclose(got[0], [1.0 + 4.0], rtol=1e-2)
    for place in (1, 2):
        y0 = float(starts[place, 0])
        exact = sum((1.0 / (1.0 - y0 * t)) ** 2 for t in (0.0, 0.5, 2.0))
        np.testing.assert_allclose(got[place], [exact], rtol=1e-2)


@pytest.mark.parametrize(("save", "adjoint"), [("interpolate", "symplectic"), ("clip", "stages")])
def test_rows_behind_a_failure_have_no_gradient(save: str, adjoint: str) -> None:
    ts = jnp.array([0.0, 0.5, 0.9, 1.5, 2.0])

    def rows(y0: Any, ts: Any) -> Any:
        options: dict[str, Any] = {"on_failure": "return", "adjoint": adjoint, "save": save, "rtol": 1e-4}
        return jo.solve(lambda t, y: y * y, y0, ts, max_steps=512, **options).ys[:, 0]

    ys, pullback = jax.vjp(rows, jnp.ones(1), ts)
    assert jnp.isnan(ys).tolist() == [False, False, False, True, True]
    y0_bar, ts_bar = pullback(jnp.array([0.0, 0.0, 0.0, 1.0, 1.0]))
    assert (y0_bar.tolist(), ts_bar.tolist()) == ([0.0], [0.0] * 5)
    y0_bar, ts_bar = pullback(jnp.array([0.0, 1.0, 1.0, math.nan, math.nan]))
    np.testing.assert_allclose(y0_bar, [104.0], rtol=3e-2)
    np.testing.assert_allclose(ts_bar, [-104.0, 4.0, 100.0, 0.0, 0.0], rtol=3e-2)
