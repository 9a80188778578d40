"""Adaptive steps in JAX: what fails, what is counted, in which precision, and when a program is compiled."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax as jo
import janode.numpy

from .adaptive_problems import PAIRS, PARAMS, PENDULUM, Y0, pendulum

LOOSE = {"rtol": 1e-3, "atol": 1e-4}
LONG = jo.PIController(first_step=1.0)


# Failures


def test_failures_are_raised_outside_of_jit() -> None:
    with pytest.raises(jo.StepSizeUnderflow, match="the step size must stay above min_step") as caught:
        jo.solve(lambda t, y: y * y, jnp.ones(1), [0.0, 2.0])
    error = caught.value
    assert abs(error.time - 1.0) < 1e-5
    assert error.step == int(error.counts.num_accepted) > 10
    assert bool(jnp.isfinite(error.last_good).all())
    with pytest.raises(jo.MaxStepsReached, match="within max_steps tries; it was not; got as far as t = ") as limited:
        jo.solve(lambda t, y: y * y, jnp.ones(1), [0.0, 2.0], max_steps=5)
    assert int(limited.value.counts.num_steps) == 5


def test_the_status_tells_inside_of_jit() -> None:
    run = jax.jit(lambda y0: jo.solve(lambda t, y: y * y, y0, [0.0, 2.0], max_steps=5))
    solution = run(jnp.ones(1))
    assert (int(solution.status), solution.message) == (3, "max_steps steps were tried before the end")
    assert bool(jnp.isnan(solution.ys[-1]).all())


def test_a_bad_stage_is_rejected_and_taken_again() -> None:
    """The stages of the first, long step leave the domain of the field."""
    arguments: Any = ([0.0, 0.5],)
    options: dict[str, Any] = {"controller": LONG}
    solution = jo.solve(lambda t, y: jnp.where(y < -0.5, jnp.nan, -40.0 * y), jnp.ones(1), *arguments, **options)
    expected = janode.numpy.solve(
        lambda t, y: np.where(y < -0.5, math.nan, -40.0 * y), np.ones(1), *arguments, **options
    )
    assert int(solution.status) == 0
    assert int(solution.stats.num_rejected) == expected.stats.num_rejected > 0
    np.testing.assert_allclose(solution.ys, expected.ys, rtol=1e-12)


# Counts


class Noted:
    """A field that notes the times of its evaluations while a compiled program runs."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, t: Any, y: Any) -> Any:
        jax.debug.callback(lambda t: self.times.append(float(t)), t)
        return 0.3 * jnp.cos(3.0 * t) * y


JUMP = jo.PIController(jump_ts=[1.0])


@pytest.mark.parametrize(
    ("method", "save", "stops"),
    [*((method, "interpolate", None) for method in PAIRS), ("dopri5", "clip", None), ("cash_karp", "clip", JUMP)],
)
def test_every_evaluation_is_counted_and_lies_inside(method: str, save: str, stops: Any) -> None:
    field, ts = Noted(), [-1.960768253878453, 0.5, 1.347893623613186]
    solution = jo.solve(field, jnp.ones(2), ts, method=method, save=save, controller=stops, max_steps=512, **LOOSE)
    jax.effects_barrier()
    assert int(solution.stats.num_field_evals) == len(field.times)
    assert int(solution.stats.num_steps) == int(solution.stats.num_accepted) + int(solution.stats.num_rejected)
    assert min(field.times) >= ts[0]
    assert max(field.times) <= ts[-1]
    assert 1.0 not in field.times or stops is None


# Precision


def test_float32_and_times_of_a_nanosecond() -> None:
    ts = [0.0, 1e-9, 3e-9]
    solution = jo.solve(lambda t, y: -1e9 * y, jnp.ones(2, jnp.float32), ts)
    assert solution.ys.dtype == jnp.float32
    np.testing.assert_allclose(solution.ys[:, 0], np.exp([0.0, -1.0, -3.0]), rtol=2e-4)


def test_without_double_precision() -> None:
    with jax.enable_x64(False):
        y0 = jnp.asarray(Y0, jnp.float32)
        loss = lambda y0: jnp.sum(jo.solve(pendulum, y0, [0.0, 0.5, 2.0], jnp.asarray(PARAMS), max_steps=128).ys ** 2)  # noqa: E731
        value, got = jax.value_and_grad(loss)(y0)
        assert (value.dtype, got.dtype) == (jnp.float32, jnp.float32)
    solution, pullback = janode.numpy.solve_vjp(PENDULUM, Y0, [0.0, 0.5, 2.0], PARAMS, rtol=1e-8)
    np.testing.assert_allclose(value, np.sum(solution.ys**2), rtol=1e-3)
    np.testing.assert_allclose(got, pullback(2 * solution.ys).y0, rtol=1e-3)


# The program


def test_one_program_serves_all_states() -> None:
    traces = []

    def field(t: Any, y: Any) -> Any:
        traces.append(1)
        return -y

    run = jax.jit(partial(jo.solve, field, max_steps=64), static_argnums=())
    run(jnp.ones(2), jnp.array([0.0, 1.0]))
    count = len(traces)
    run(10.0 * jnp.ones(2), jnp.array([0.0, 5.0]))
    assert len(traces) == count
