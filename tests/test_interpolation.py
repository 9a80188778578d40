"""The solution as a function of time: its order, its derivative, and what is outside of it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax
import janode.numpy as jo

ORDERS = {"bosh3": 3, "dopri5": 4, "tsit5": 4, "dopri8": 7}


def driven(t: Any, y: Any) -> Any:
    """y' = -y + sin 3 t."""
    return -y + np.sin(3.0 * t)


def exact(t: Any) -> Any:
    return 1.3 * np.exp(-t) + (np.sin(3.0 * t) - 3.0 * np.cos(3.0 * t)) / 10.0


@pytest.mark.parametrize("method", ORDERS)
@pytest.mark.parametrize("end", [4.0, -1.5], ids=["forwards", "backwards"])
def test_it_is_near_the_solution_between_steps(method: str, end: float) -> None:
    solution = jo.solve(driven, np.ones(1), [0.0, end], method=method, rtol=1e-8, atol=1e-8, dense=True)
    times = np.linspace(0.0, end, 97)
    found = solution.interpolant(times)
    assert found.shape == (97, 1)
    np.testing.assert_allclose(found[:, 0], exact(times), atol=3e-6)
    slopes = solution.interpolant.derivative(times)[:, 0]
    np.testing.assert_allclose(slopes, driven(times, exact(times)), atol=3e-4)
    assert solution.interpolant.step_ts[0] == 0.0
    assert solution.interpolant.step_ts[-1] == end
    assert len(solution.interpolant.step_ts) == solution.stats.num_accepted + 1


@pytest.mark.parametrize(("method", "order"), ORDERS.items(), ids=ORDERS)
def test_order(method: str, order: int) -> None:
    errors = []
    sizes = (0.2, 0.1) if method == "dopri8" else (0.1, 0.05)
    for size in sizes:
        controller = jo.PIController(first_step=size, max_step=size)
        solution = jo.solve(
            driven, np.ones(1), [0.0, 2.0], method=method, rtol=1.0, atol=1.0, controller=controller, dense=True
        )
        times = np.linspace(0.013, 1.987, 200)
        errors.append(abs(solution.interpolant(times)[:, 0] - exact(times)).max())
    assert np.log2(errors[0] / errors[1]) > order - 0.35


def test_it_passes_through_the_saved_states() -> None:
    ts = [0.0, 0.4, 1.1, 3.0]
    solution = jo.solve(driven, np.ones(1), ts, rtol=1e-6, atol=1e-6, dense=True)
    np.testing.assert_allclose(solution.interpolant(ts), solution.ys, rtol=1e-13)


def test_a_time_outside_is_refused() -> None:
    solution = jo.solve(driven, np.ones(1), [0.0, 1.0], dense=True)
    with pytest.raises(jo.InputError, match=r"t must lie between 0\.0 and 1\.0; got 1\.5"):
        solution.interpolant(1.5)


def test_by_jax() -> None:
    @jax.jit
    def run(y0: Any) -> Any:
        field = lambda t, y: -y + jnp.sin(3.0 * t)  # noqa: E731
        return janode.jax.solve(field, y0, [0.0, 4.0], rtol=1e-8, atol=1e-8, dense=True, max_steps=200).interpolant

    ours = jo.solve(driven, np.ones(1), [0.0, 4.0], rtol=1e-8, atol=1e-8, dense=True).interpolant
    found, times = run(jnp.ones(1)), np.linspace(0.0, 4.0, 31)
    np.testing.assert_allclose(found(times), ours(times), rtol=1e-11)
    np.testing.assert_allclose(found.derivative(times), ours.derivative(times), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(found(0.7), ours(0.7), rtol=1e-11)
    assert bool(jnp.isnan(found(4.5)).all())
