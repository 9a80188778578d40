"""Adaptive steps in JAX: values, gradients and counts are those of NumPy, also within a memory budget."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("adjoint", "save"), [*((preset, "interpolate") for preset in PRESETS), ("symplectic", "clip")]
)
def test_steps_values_and_gradients_are_those_of_numpy(adjoint: str, save: str) -> None:
    check("bosh3", save, "many", adjoint=adjoint)


def test_reversed_time() -> None:
    check("bosh3", "interpolate", "reversed")


@pytest.mark.parametrize(("times", "save"), [("many", "clip"), ("reversed", "interpolate")])
def test_forced_times_and_discontinuities(times: str, save: str) -> None:
    check("bosh3", save, times, STOPS)


@pytest.mark.parametrize("method", ["adaptive_heun", "dopri8"])
def test_other_pairs(method: str) -> None:
    check(method, "interpolate", "many")


@pytest.mark.parametrize(("adjoint", "checkpoints"), [("symplectic", 2), ("aca", 6), ("stages", 4)])
def test_thinned_records_give_the_same_gradient(adjoint: str, checkpoints: int) -> None:
    check("bosh3", "interpolate", "many", adjoint=adjoint, checkpoints=checkpoints)
