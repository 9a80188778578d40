"""Adaptive steps in JAX: batches, failures within them, complex states, and all modes of differentiation."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax as jo
import janode.torch

from .adaptive_problems import PARAMS, Y0, pendulum

LOOSE = {"rtol": 1e-3, "atol": 1e-4}


def stretched(y0: Any, rate: Any, **options: Any) -> jo.Solution[Any]:
    """A problem whose number of steps depends on the sample."""
    return jo.solve(lambda t, y: -rate * (y - jnp.cos(rate * t)), y0, [0.0, 1.0, 2.0], **options)


RATES = jnp.array([0.1, 30.0, 3.0, 0.0])
STATES = jnp.array([[1.0, 2.0], [0.5, -1.0], [0.0, 0.0], [3.0, 1.0]])


@pytest.mark.parametrize(
    ("checkpoints", "adjoint", "save"),
    [(4, "symplectic", "interpolate"), (None, "stages", "clip")],
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


def test_complex_states() -> None:
    """JAX's gradient dL/dx - i dL/dy is the conjugate of PyTorch's."""
    ts, start, rate = [0.0, 0.8, 1.5], [1.0 + 0.5j, -0.3j], 0.4 + 2.0j

    def loss(y0: Any, rate: Any) -> Any:
        field = lambda t, y: rate * y * jnp.cos(t) - 0.1 * y * y  # noqa: E731
        return jnp.sum(jnp.abs(jo.solve(field, y0, ts, max_steps=64).ys) ** 2)

    got = jax.grad(loss, argnums=(0, 1))(jnp.array(start), jnp.asarray(rate))
    leaves = [torch.tensor(part, dtype=torch.complex128, requires_grad=True) for part in (start, rate)]
    ys = janode.torch.solve(lambda t, y, rate: rate * y * torch.cos(t) - 0.1 * y * y, leaves[0], ts, leaves[1]).ys
    for one, other in zip(got, torch.autograd.grad((ys.abs() ** 2).sum(), leaves), strict=True):
        np.testing.assert_allclose(one, other.conj().resolve_conj().numpy(), rtol=1e-10)


def test_all_modes_go_through_the_accepted_steps() -> None:
    """JAX's own derivatives of the steps, by ``backprop``; second ones, too."""

    def last(y0: Any, adjoint: str) -> Any:
        return jo.solve(pendulum, y0, [0.0, 0.5], PARAMS, adjoint=adjoint, max_steps=12, method="bosh3", **LOOSE).ys[-1]

    y0 = jnp.asarray(Y0)
    expected = jax.jacrev(lambda y0: last(y0, "symplectic"))(y0)
    np.testing.assert_allclose(jax.jacfwd(lambda y0: last(y0, "backprop"))(y0), expected, rtol=1e-11)
    second = jax.jacfwd(jax.jacrev(lambda y0: last(y0, "backprop")[0]))(y0)
    np.testing.assert_allclose(second, second.T, rtol=1e-11)
    assert float(jnp.max(jnp.abs(second))) > 1e-3
