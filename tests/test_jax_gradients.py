"""Every preset's gradient in JAX is that of the discrete solution, as JAX itself finds it; no more is computed."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import janode.jax as jo
from janode.core.adjoint import RECOVERIES

from .jax_reference import PARAMS, TS, Y0, Tree, assert_close, equations, field, jit, loss, textbook

PRESETS = list(RECOVERIES)
RECOMPUTING = [preset for preset in PRESETS if preset != "backprop"]


@functools.cache
def expected(method: str, counts: tuple[int, ...], ts: tuple[float, ...]) -> tuple[Tree, Tree]:
    """The states and the gradient by (y0, ts, params), by JAX's autodiff through the steps as the book has them."""

    def objective(*args: Tree) -> tuple[Any, Tree]:
        ys = textbook(method, field, *args, counts)
        return loss(ys), ys

    differentiated = jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True)
    (_, ys), gradient = jit(differentiated)(Y0, jnp.array(ts), PARAMS)
    return ys, gradient


def computed(ts: Any, **options: Any) -> tuple[Tree, Tree]:
    def objective(*args: Tree) -> tuple[Any, Tree]:
        ys = jo.solve(field, *args, **options).ys
        return loss(ys), ys

    (_, ys), gradient = jit(jax.value_and_grad(objective, argnums=(0, 1, 2), has_aux=True))(Y0, ts, PARAMS)
    return ys, gradient


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", ["euler", "rk4", "dopri5", "dopri8"])
def test_gradient_is_that_of_the_discrete_solution(method: str, preset: str) -> None:
    got = computed(TS, method=method, adjoint=preset, steps=2)
    assert_close(got, expected(method, (2, 2), tuple(TS.tolist())))


@pytest.mark.parametrize("preset", PRESETS)
def test_gradient_backwards_in_time(preset: str) -> None:
    ts = (1.5, 0.5, 0.25)
    assert_close(computed(jnp.array(ts), method="rk4", adjoint=preset, steps=2), expected("rk4", (2, 2), ts))


@pytest.mark.parametrize("preset", PRESETS)
def test_gradient_on_a_ragged_grid(preset: str) -> None:
    ts = (1.5, 1.25, 0.25)

    def objective(y0: Tree, params: Tree) -> tuple[Any, Tree]:
        ys = jo.solve(field, y0, ts, params, method="rk4", adjoint=preset, step_size=0.3).ys
        return loss(ys), ys

    (_, ys), (y0_bar, params_bar) = jit(jax.value_and_grad(objective, argnums=(0, 1), has_aux=True))(Y0, PARAMS)
    wanted_ys, (wanted_y0, _, wanted_params) = expected("rk4", (1, 4), ts)
    assert_close((ys, y0_bar, params_bar), (wanted_ys, wanted_y0, wanted_params))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_leaf_that_the_loss_ignores(preset: str) -> None:
    def size(ys: Tree) -> Any:
        return jnp.sum(ys["x"] ** 2)

    got = jit(jax.grad(lambda y0: size(jo.solve(field, y0, TS, PARAMS, method="rk4", adjoint=preset, steps=2).ys)))(Y0)
    wanted = jit(jax.grad(lambda y0: size(textbook("rk4", field, y0, TS, PARAMS, (2, 2)))))(Y0)
    assert_close(got, wanted)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_field_that_depends_on_nothing(preset: str) -> None:
    def end(y0: Any) -> Any:
        return jo.solve(lambda t, y: jnp.asarray(-2.0), y0, [0.0, 1.5], method="rk4", adjoint=preset, steps=2).ys[-1]

    value, gradient = jit(jax.value_and_grad(end))(1.0)
    assert_close((value, gradient), (jnp.array(-2.0), jnp.array(1.0)))


# Derivatives beyond one gradient.


def slope(t: Any, y: Any, k: Any) -> Any:
    return -k * y * y


def end_size(y0: Any, k: Any, adjoint: str) -> Any:
    return jnp.sum(jo.solve(slope, y0, [0.0, 1.0], k, method="rk4", adjoint=adjoint, steps=3).ys[-1] ** 2)


@pytest.fixture(scope="module")
def second_derivatives() -> tuple[Tree, Tree]:
    def by_the_book(y0: Any, k: Any) -> Any:
        return jnp.sum(textbook("rk4", slope, y0, jnp.array([0.0, 1.0]), k, (3,))[-1] ** 2)

    return jit(jax.hessian(by_the_book, argnums=(0, 1)))(jnp.array([0.5, 1.2]), 0.7)


def test_backprop_under_hessian(second_derivatives: Tree) -> None:
    hessian = jit(jax.hessian(end_size, argnums=(0, 1)), static_argnums=2)
    assert_close(hessian(jnp.array([0.5, 1.2]), 0.7, "backprop"), second_derivatives)


@pytest.mark.parametrize("preset", RECOMPUTING)
def test_a_gradient_of_a_gradient(preset: str, second_derivatives: Tree) -> None:
    hessian = jit(jax.jacrev(jax.jacrev(end_size, argnums=(0, 1)), argnums=(0, 1)), static_argnums=2)
    assert_close(hessian(jnp.array([0.5, 1.2]), 0.7, preset), second_derivatives)


@pytest.mark.parametrize("forward", [jax.jacfwd, lambda f: lambda x: jax.jvp(f, (x,), (jnp.ones(()),))[1]])
def test_backprop_under_forward_mode(forward: Callable[..., Any]) -> None:
    def f(k: Any) -> Any:
        return end_size(jnp.array([0.5, 1.2]), k, "backprop")

    assert_close(jit(forward(f))(0.7), jit(jax.grad(f))(0.7))


@pytest.mark.parametrize("preset", RECOMPUTING)
def test_forward_mode_of_a_recomputing_preset_is_refused(preset: str) -> None:
    with pytest.raises(jo.InputError, match='forward mode must have the adjoint "forward", or "backprop"'):
        jax.jvp(lambda k: end_size(jnp.array([0.5, 1.2]), k, preset), (0.7,), (1.0,))


# Only what is asked for is computed.


def num_operations(differentiate: Callable[..., Any], primitive: str, preset: str) -> int:
    """How many equations of a primitive are left in a gradient after what is not used is removed."""

    def objective(y0: Any, ts: Any, params: Tree) -> Any:
        def forced(t: Any, y: Any, params: Tree) -> Any:
            return jnp.sin(t * params["a"]) * y + params["W"] @ jnp.exp(params["b"]) * y

        return jnp.sum(jo.solve(forced, y0, ts, params, method="euler", adjoint=preset, steps=2).ys)

    params = {"a": jnp.array(0.5), "W": jnp.ones((3, 3)), "b": jnp.ones(3)}
    jaxpr = jax.make_jaxpr(differentiate(objective))(jnp.ones(3), jnp.array([0.0, 1.0]), params).jaxpr
    return sum(eqn.primitive.name == primitive for eqn in equations(jaxpr))


@pytest.mark.parametrize("preset", RECOMPUTING)
@pytest.mark.parametrize(
    ("argnums", "primitive", "more"),
    [
        (0, "cos", 0),  # the derivative of sin in the time pullback, and by params["a"]
        (1, "cos", 1),
        (2, "cos", 1),
    ],
)
def test_the_pullback_of_time_and_params_only_if_wanted(argnums: int, primitive: str, more: int, preset: str) -> None:
    def differentiate(objective: Callable[..., Any]) -> Callable[..., Any]:
        return jax.grad(objective, argnums=argnums)

    assert num_operations(differentiate, primitive, preset) == more


def carried_shapes(gradient: Callable[..., Any], *args: Any) -> Sequence[tuple[int, ...]]:
    """The shapes that the loops of a computation carry from step to step."""
    jaxpr = jax.make_jaxpr(gradient)(*args).jaxpr
    scans = [eqn for eqn in equations(jaxpr) if eqn.primitive.name == "scan"]
    return [variable.aval.shape for eqn in scans for variable in eqn.outvars[: eqn.params["num_carry"]]]


@pytest.mark.parametrize("preset", RECOMPUTING)
@pytest.mark.parametrize(("is_wanted", "copies"), [(False, 0), (True, 1)])
def test_a_captured_array_is_accumulated_only_if_differentiated(is_wanted: bool, copies: int, preset: str) -> None:
    def objective(y0: Any, W: Any) -> Any:
        return jnp.sum(jo.solve(lambda t, y: W @ y, y0, TS, method="euler", adjoint=preset, steps=2).ys)

    gradient = jax.grad(objective, argnums=(0, 1) if is_wanted else 0)
    shapes = carried_shapes(gradient, jnp.ones(5), jnp.ones((5, 5)))
    assert shapes.count((5, 5)) == copies


@pytest.mark.parametrize("preset", RECOMPUTING)
@pytest.mark.parametrize(("argnums", "buffers"), [(0, 0), (1, 1)])
def test_time_cotangents_are_carried_only_if_ts_is_differentiated(argnums: int, buffers: int, preset: str) -> None:
    def objective(y0: Any, ts: Any) -> Any:
        return jnp.sum(jo.solve(lambda t, y: -t * y, y0, ts, method="euler", adjoint=preset, steps=2).ys)

    shapes = carried_shapes(jax.grad(objective, argnums=argnums), jnp.ones(5), jnp.arange(7.0))
    assert shapes.count((7,)) == buffers
