"""Forward mode and second derivatives in JAX: right where there are any, refused by name where there are none."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax as jo

GRIDS: dict[str, dict[str, Any]] = {
    "fixed": {"method": "midpoint", "steps": 3},
    "adaptive": {"method": "adaptive_heun", "rtol": 1e-2, "atol": 1e-3, "max_steps": 64},
    "clipped": {"method": "adaptive_heun", "rtol": 1e-2, "atol": 1e-3, "save": "clip", "max_steps": 64},
    "multistep": {"method": "ab2", "steps": 3},
    "reversible": {"method": "alf", "steps": 3},
}
Q = jnp.array([1.1, 0.4, 0.3, 0.6, 1.0, 0.5, 0.0, 1.0, 2.0])
"""Four rates, the initial state, and three times."""
V = jnp.linspace(1.0, 2.0, 9)


def lotka_volterra(t: Any, y: Any, p: Any) -> Any:
    return jnp.cos(t) * jnp.stack([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])


def loss(q: Any, **options: Any) -> Any:
    return (jo.solve(lotka_volterra, q[4:6], q[6:], q[:4], **options).ys[1:] ** 2).sum()


@functools.cache
def gradient(grid: str) -> Any:
    return jax.jit(jax.grad(lambda q: loss(q, **GRIDS[grid])))(Q)


def pushed(f: Callable[..., Any]) -> Any:
    return jax.jit(lambda q, v: jax.jvp(f, (q,), (v,))[1])(Q, V)


@pytest.mark.parametrize("grid", ["adaptive", "multistep", "reversible"])
def test_forward_mode_is_adjoint_to_the_gradient(grid: str) -> None:
    found = pushed(lambda q: loss(q, adjoint="forward", **GRIDS[grid]))
    np.testing.assert_allclose(found, gradient(grid) @ V, rtol=1e-12)


def test_linear_maps() -> None:
    found = jax.jit(lambda: jax.linearize(lambda q: loss(q, adjoint="forward", **GRIDS["clipped"]), Q)[1](V))()
    np.testing.assert_allclose(found, gradient("clipped") @ V, rtol=1e-12)


def test_lanes_push_steps_of_their_own() -> None:
    starts = jnp.stack([Q, Q.at[4].set(3.0)])

    def push(q: Any) -> Any:
        return jax.jvp(lambda q: loss(q, adjoint="forward", **GRIDS["clipped"]), (q,), (V,))[1]

    expected = [jax.jit(push)(q) for q in starts]
    np.testing.assert_allclose(jax.jit(jax.vmap(push))(starts), expected, rtol=1e-12)


@pytest.mark.parametrize("grid", ["fixed", "clipped"])
def test_solve_jvp(grid: str) -> None:
    options = GRIDS[grid]
    dots = {"y0_dot": V[4:6], "params_dot": V[:4], "ts_dot": V[6:]}
    solution, ys_dot = jo.solve_jvp(lotka_volterra, Q[4:6], Q[6:], Q[:4], **dots, **options)
    np.testing.assert_allclose(2.0 * (solution.ys * ys_dot)[1:].sum(), gradient(grid) @ V, rtol=1e-12)
    assert float(loss(Q, **options)) == pytest.approx(float((solution.ys[1:] ** 2).sum()), rel=1e-13)
    assert solution.status == 0


def test_solve_jvp_of_pytrees_and_controls() -> None:
    """Integers of params have no tangent, and a leaf that is None is not moved."""
    knots = jo.Knots([0.0, 0.5, 1.0], jnp.array([1.0, 0.5, 2.0]))
    arguments = {"y": jnp.ones(2), "z": jnp.zeros(1)}, [0.0, 1.0], {"k": jnp.array(0.5), "n": 2}

    def field(t: Any, y: Any, p: Any, u: Any) -> Any:
        return {"y": -p["k"] * y["y"] ** p["n"] * u, "z": y["y"][:1]}

    def end(k: Any, values: Any) -> Any:
        y0, ts, p = arguments
        own = jo.Knots(knots.times, values)
        return jo.solve(field, y0, ts, {**p, "k": k}, controls=own, method="midpoint", step_size=0.25).ys["z"][-1, 0]

    dots = {"params_dot": {"k": jnp.array(2.0), "n": None}, "controls_dot": jnp.array([1.0, 0.0, 3.0])}
    _, ys_dot = jo.solve_jvp(field, *arguments, controls=knots, method="midpoint", step_size=0.25, **dots)
    k_bar, values_bar = jax.grad(end, (0, 1))(jnp.array(0.5), knots.values)
    np.testing.assert_allclose(ys_dot["z"][-1, 0], 2.0 * k_bar + values_bar @ dots["controls_dot"], rtol=1e-12)


def test_the_hessian_is_that_of_differences_of_the_gradient() -> None:
    """With respect to the four rates; the differences are of fourth order."""
    run = jax.jit(jax.grad(lambda q: loss(q, **GRIDS["fixed"])))
    rows = []
    for e in 1e-3 * jnp.eye(9)[:4]:
        near, far = run(Q + e) - run(Q - e), run(Q + 2.0 * e) - run(Q - 2.0 * e)
        rows.append((8.0 * near - far) / 12e-3)
    found = jax.jit(jax.hessian(lambda q: loss(q, **GRIDS["fixed"])))(Q)
    np.testing.assert_allclose(found[:4], np.stack(rows), rtol=1e-7, atol=1e-7)


@functools.cache
def curvature(grid: str) -> Any:
    """<V, H V> by JAX's own derivatives of the accepted steps, forwards twice."""

    def slope(q: Any) -> Any:
        return jax.jvp(lambda q: loss(q, adjoint="forward", **GRIDS[grid]), (q,), (V,))[1]

    return pushed(slope)


CASES = [("adaptive", "symplectic"), ("reversible", "reversible")]


@pytest.mark.parametrize(("grid", "preset"), CASES)
def test_forward_over_reverse(grid: str, preset: str) -> None:
    """With times that lie between adaptive steps, too."""
    found = pushed(lambda q: jax.grad(lambda q: loss(q, adjoint=preset, **GRIDS[grid]))(q) @ V)
    np.testing.assert_allclose(found, curvature(grid), rtol=1e-11)


def test_the_event_is_pushed() -> None:
    """y = c exp(-t) comes to 1/2 at t = log 2 c, and stays there."""

    def event(c: Any) -> Any:
        found = jo.solve(
            lambda t, y: -y,
            c,
            [0.0, 3.0],
            event=lambda t, y: y[0] - 0.5,
            method="bosh3",
            rtol=1e-7,
            atol=1e-7,
            adjoint="forward",
        )
        return found.event.t, found.event.y[0]

    dots = jax.jit(lambda c: jax.jvp(event, (c,), (jnp.ones(1),))[1])(jnp.array([2.0]))
    np.testing.assert_allclose(dots, [0.5, 0.0], rtol=1e-5, atol=1e-7)


def end(c: Any, read: Any = lambda found: found.ys, field: Any = lambda t, y: -y * y, **options: Any) -> Any:
    return read(jo.solve(field, c, [0.0, 2.0], **options)).sum()


EVENT = {"event": lambda t, y: y[0] - 0.5, "read": lambda found: found.event.t, "max_steps": 64}
CONTROLS = {
    "field": lambda t, y, u: u * y,
    "controls": jnp.ones(8),
    "method": "midpoint",
    "steps": 4,
    "correction": "filter",
}
MODES: dict[str, Callable[..., Any]] = {
    "hessian": lambda f: jax.jit(jax.hessian(f)),
    "jacrev of jacrev": lambda f: jax.jit(jax.jacrev(jax.jacrev(f))),
}
TWICE: dict[str, tuple[dict[str, Any], str]] = {
    "reconstruct": ({"steps": 3, "adjoint": "reconstruct"}, "must be those of an exact adjoint"),
    "backsolve": ({"steps": 3, "adjoint": "backsolve"}, "must be those of an exact adjoint"),
    "correction": (CONTROLS, "must be those of an exact adjoint"),
    "event": (EVENT, "events must be differentiated once"),
    "event of backprop": (EVENT | {"adjoint": "backprop"}, "events must be differentiated once"),
}


@pytest.mark.parametrize(("options", "text"), TWICE.values(), ids=list(TWICE))
@pytest.mark.parametrize("mode", MODES.values(), ids=list(MODES))
def test_second_derivatives_refused(mode: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        mode(lambda c: end(c, **options))(jnp.array([2.0]))


def test_reverse_over_reverse_of_adaptive_steps_is_refused_by_jax() -> None:
    with pytest.raises(ValueError, match="Reverse-mode differentiation does not work for"):
        jax.jit(jax.jacrev(jax.jacrev(end)))(jnp.array([2.0]))


@pytest.mark.parametrize("preset", ["auto", "revolve"])
def test_forward_mode_of_others_is_refused(preset: str) -> None:
    with pytest.raises(jo.InputError, match=r'forward mode must have the adjoint "forward", or "backprop"'):
        jax.jvp(lambda c: end(c, adjoint=preset, steps=2), (jnp.ones(1),), (jnp.ones(1),))
    with pytest.raises(TypeError, match="can't apply forward-mode"):
        jax.jit(lambda c: jax.jvp(lambda c: end(c, adjoint=preset, steps=2), (c,), (c,)))(jnp.ones(1))


def refused(**options: Any) -> Callable[[], Any]:
    return lambda: jo.solve_jvp(lambda t, y, p: p * y, jnp.ones(2), [0.0, 1.0], jnp.array(1.0), steps=2, **options)


REFUSED = {
    "shape": (refused(y0_dot=jnp.ones(3)), r"y0_dot must have the shapes and dtypes of y0; got shape \(3,\)"),
    "dtype": (refused(params_dot=jnp.array(1)), "params_dot must have the shapes and dtypes of params"),
    "structure": (refused(params_dot=(jnp.array(1.0), jnp.array(2.0))), "params_dot must have the structure of params"),
    "times": (refused(ts_dot=[1.0]), r"ts_dot must be one number for each of ts; got shape \(1,\)"),
    "adjoint": (refused(adjoint="aca"), "adjoint must not be given"),
    "correction": (refused(correction="filter"), "correction must not be given"),
}


@pytest.mark.parametrize(("call", "text"), REFUSED.values(), ids=list(REFUSED))
def test_refused(call: Any, text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        call()
