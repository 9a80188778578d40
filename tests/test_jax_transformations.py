"""Solves in JAX under its transformations, with traced and concrete closures, and with any pytree as params."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax as jo
from janode.core.adjoint import RECOVERIES

from .jax_reference import Tree, assert_close, jit, textbook

PRESETS = list(RECOVERIES)
TS = (0.25, 0.5, 1.5)
ARGUMENTS = {"y0": jnp.array([0.4, -0.9]), "ts": jnp.array(TS), "k": jnp.array(0.7)}


def field(t: Any, y: Any, k: Any) -> Any:
    return k * jnp.sin(t) * (1.0 - y * y)


def solved(y0: Any, ts: Any, k: Any, adjoint: str = "auto") -> Any:
    return jo.solve(field, y0, ts, k, method="rk4", adjoint=adjoint, steps=2).ys


def by_the_book(y0: Any, ts: Any, k: Any) -> Any:
    return textbook("rk4", field, y0, jnp.asarray(ts), k, (2, 2))


def size(ys: Any) -> Any:
    return jnp.sum(jnp.cos(ys))


# Batches.


def solved_with(name: str, adjoint: str = "auto") -> Callable[[Any], Any]:
    """The solve as a function of one argument; the k of a closure reaches the field unseen."""

    def solve(value: Any) -> Any:
        if name == "closure":
            y0, ts = ARGUMENTS["y0"], TS
            return jo.solve(lambda t, y: field(t, y, value), y0, ts, method="rk4", adjoint=adjoint, steps=2).ys
        return solved(**{**ARGUMENTS, name: value}, adjoint=adjoint)

    return solve


def batch(name: str) -> Any:
    value = ARGUMENTS["k" if name == "closure" else name]
    return jnp.stack([value, 1.25 * value, 0.5 * value])


@pytest.mark.parametrize("name", ["y0", "ts", "k", "closure"])
def test_vmap_is_a_loop_over_solves(name: str) -> None:
    values = batch(name)
    got = jit(jax.vmap(solved_with(name)))(values)
    assert_close(got, jnp.stack([solved_with(name)(value) for value in values]))


@pytest.mark.parametrize("name", ["y0", "ts", "k", "closure"])
def test_jit_of_vmap_of_grad_is_a_loop_over_gradients(name: str) -> None:
    values = batch(name)
    got = jit(jax.vmap(jax.grad(lambda value: size(solved_with(name)(value)))))(values)
    argument = "k" if name == "closure" else name
    wanted = jax.vmap(jax.grad(lambda value: size(by_the_book(**{**ARGUMENTS, argument: value}))))
    assert_close(got, jit(wanted)(values))


@pytest.mark.parametrize("preset", PRESETS)
def test_vmap_of_grad_over_all_arguments(preset: str) -> None:
    arguments = [batch(name) for name in ARGUMENTS]

    def differentiated(solve: Callable[..., Any], *rest: Any) -> Any:
        return jit(jax.vmap(jax.grad(lambda *args: size(solve(*args, *rest)), argnums=(0, 1, 2))))(*arguments)

    assert_close(differentiated(solved, preset), differentiated(by_the_book))


@pytest.mark.parametrize("preset", PRESETS)
def test_grad_of_vmap_sums_over_the_batch(preset: str) -> None:
    y0 = batch("y0")

    def total(k: Any, solve: Callable[..., Any], *rest: Any) -> Any:
        return size(jax.vmap(lambda y0: solve(y0, TS, k, *rest))(y0))

    got = jit(jax.grad(lambda k: total(k, solved, preset)))(0.7)
    assert_close(got, jit(jax.grad(lambda k: total(k, by_the_book)))(0.7))


def test_without_jit_a_transformed_solve_is_the_same() -> None:
    values = batch("k")
    value, gradient = jax.vmap(jax.value_and_grad(lambda k: size(solved_with("k")(k))))(values)
    wanted = jit(jax.vmap(jax.value_and_grad(lambda k: size(by_the_book(**{**ARGUMENTS, "k": k})))))(values)
    assert_close((value, gradient), wanted)


def test_jacrev() -> None:
    got = jit(jax.jacrev(lambda y0: solved(y0, TS, 0.7)))(ARGUMENTS["y0"])
    assert_close(got, jit(jax.jacrev(lambda y0: by_the_book(y0, TS, 0.7)))(ARGUMENTS["y0"]))


# Solves within other control flow.


def in_scan(solve: Callable[..., Any], y0: Any, k: Any) -> Any:
    def advance(y: Any, ts: Any) -> tuple[Any, Any]:
        y = solve(y, ts, k)[-1]
        return y, y

    ends = jnp.array([0.5, 1.0, 1.5])
    return jax.lax.scan(advance, y0, jnp.stack([ends - 0.5, ends - 0.25, ends], axis=1))[1]


def in_fori_loop(solve: Callable[..., Any], y0: Any, k: Any) -> Any:
    return jax.lax.fori_loop(0, 3, lambda i, y: solve(y, TS, k * (i + 1))[-1], y0)


def in_cond(solve: Callable[..., Any], y0: Any, k: Any) -> Any:
    return jax.lax.cond(k > 0, lambda y: solve(y, TS, k), lambda y: solve(y, TS, 2 * k), y0)


def in_checkpoint(solve: Callable[..., Any], y0: Any, k: Any) -> Any:
    return jax.checkpoint(lambda y0, k: solve(y0, TS, k))(y0, k)


@pytest.mark.parametrize("preset", ["symplectic", "backprop"])
@pytest.mark.parametrize("nested", [in_scan, in_fori_loop, in_cond, in_checkpoint])
def test_a_solve_within_control_flow(nested: Callable[..., Any], preset: str) -> None:
    def ours(*args: Any) -> Any:
        return solved(*args, preset)

    def differentiated(solve: Callable[..., Any]) -> Any:
        objective = jax.value_and_grad(lambda y0, k: size(nested(solve, y0, k)), argnums=(0, 1))
        return jit(objective)(ARGUMENTS["y0"], 0.7)

    assert_close(differentiated(ours), differentiated(by_the_book))


def with_cond(t: Any, y: Any, k: Any) -> Any:
    return jax.lax.cond(t > 0.6, lambda: -k * y, lambda: k * jnp.sin(y))


def with_loop(t: Any, y: Any, k: Any) -> Any:
    return jax.lax.fori_loop(0, 2, lambda i, z: jnp.tanh(k * z + t), y)


def with_rules(t: Any, y: Any, k: Any) -> Any:
    return -k * jax.nn.softplus(y) + jax.nn.relu(jnp.cos(t) * y)


@pytest.mark.parametrize("inner", [with_cond, with_loop, with_rules])
def test_a_field_of_control_flow_and_custom_rules(inner: Callable[..., Any]) -> None:
    def ours(y0: Any, k: Any) -> Any:
        return size(jo.solve(inner, y0, TS, k, method="rk4", steps=2).ys)

    def wanted(y0: Any, k: Any) -> Any:
        return size(textbook("rk4", inner, y0, jnp.array(TS), k, (2, 2)))

    got, wanted = (jit(jax.grad(f, argnums=(0, 1)))(ARGUMENTS["y0"], 0.7) for f in (ours, wanted))
    assert_close(got, wanted)


# What a field closes over.


def gradient_by(closure: Callable[[Any], Callable[..., Any]], value: Any, adjoint: str = "auto") -> Any:
    def objective(value: Any) -> Any:
        solution = jo.solve(closure(value), ARGUMENTS["y0"], TS, method="rk4", adjoint=adjoint, steps=2)
        return size(solution.ys)

    return jax.grad(objective)(value)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_traced_closure_gets_its_gradient(preset: str) -> None:
    got = gradient_by(lambda k: lambda t, y: field(t, y, k), 0.7, preset)
    assert_close(got, jit(jax.grad(lambda k: size(by_the_book(ARGUMENTS["y0"], TS, k))))(0.7))


def test_a_closure_within_a_jitted_function_gets_its_gradient() -> None:
    def closure(k: Any) -> Callable[..., Any]:
        return jax.jit(lambda t, y: field(t, y, k))

    assert_close(gradient_by(closure, 0.7), gradient_by(lambda k: lambda t, y: field(t, y, k), 0.7))


def test_a_traced_integer_in_a_closure() -> None:
    rates = jnp.array([0.2, 0.7, 1.5])

    def gradient(rates: Any, n: Any) -> Any:
        return gradient_by(lambda rates: lambda t, y: field(t, y, rates[n]), rates)

    got = jit(jax.vmap(gradient, in_axes=(None, 0)))(rates, jnp.array([1, 2]))
    wanted = jit(jax.vmap(jax.grad(lambda k: size(by_the_book(ARGUMENTS["y0"], TS, k)))))(rates[1:])
    assert_close(got, jnp.zeros((2, 3)).at[jnp.array([0, 1]), jnp.array([1, 2])].set(wanted))


@pytest.mark.parametrize(
    "captured", [0.7, np.float32(0.7), np.array(0.7), jnp.array(0.7)], ids=lambda c: type(c).__name__
)
def test_a_concrete_closure_is_a_constant(captured: Any) -> None:
    def ours(y0: Any) -> Any:
        return jo.solve(lambda t, y: field(t, y, captured), y0, TS, method="rk4", steps=2).ys

    y0 = ARGUMENTS["y0"]
    assert_close(jax.grad(lambda y0: size(ours(y0)))(y0), jax.grad(lambda y0: size(solved(y0, TS, captured)))(y0))


# Params of any kind.


def mixed(t: Any, y: Any, p: Tree) -> Any:
    rate = p["k"] if p["flag"] and p["missing"] is None else jnp.nan
    return rate * p["f"](jnp.sin(t)) * (1.0 - y ** p["power"]) * p["mask"] ** p["count"]


def test_leaves_that_have_no_gradient() -> None:
    rest = {
        "flag": True,
        "missing": None,
        "f": jnp.asarray,
        "power": 2,
        "mask": jnp.array([True, True]),
        "count": jnp.array(3),
    }

    def objective(k: Any) -> Any:
        return size(jo.solve(mixed, ARGUMENTS["y0"], TS, {"k": k, **rest}, method="rk4", steps=2).ys)

    assert_close(jax.grad(objective)(0.7), jit(jax.grad(lambda k: size(by_the_book(ARGUMENTS["y0"], TS, k))))(0.7))


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_a_random_key_in_params(make: Callable[[int], Any]) -> None:
    def noisy(t: Any, y: Any, p: Tree) -> Any:
        return -p["k"] * jax.random.normal(p["key"], y.shape) * y

    def objective(k: Any, key: Any) -> Any:
        return size(jo.solve(noisy, ARGUMENTS["y0"], TS, {"k": k, "key": key}, method="rk4", steps=2).ys)

    def wanted(k: Any, key: Any) -> Any:
        return size(textbook("rk4", noisy, ARGUMENTS["y0"], jnp.array(TS), {"k": k, "key": key}, (2, 2)))

    keys = jax.random.split(make(0), 2)
    got = jit(jax.vmap(jax.grad(objective), in_axes=(None, 0)))(0.7, keys)
    assert_close(got, jit(jax.vmap(jax.grad(wanted), in_axes=(None, 0)))(0.7, keys))


@pytest.mark.parametrize("adjoint", ["symplectic", "aca", "stages", "restart", "revolve"])
def test_dropout_with_a_mask_for_each_step(adjoint: str) -> None:
    def dropped(t: Any, y: Any, p: Tree) -> Any:
        key = jax.random.fold_in(p["key"], jnp.int32(8.0 * t))
        return -p["k"] * jax.random.bernoulli(key, 0.6, y.shape) * y

    def objective(k: Any, adjoint: str) -> Any:
        params = {"k": k, "key": jax.random.key(2)}
        return size(jo.solve(dropped, jnp.ones(3), [0.0, 0.5, 1.0], params, method="rk4", steps=4, adjoint=adjoint).ys)

    got, expected = (jit(jax.grad(lambda k, name=name: objective(k, name)))(0.7) for name in (adjoint, "backprop"))
    assert_close(got, expected)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_a_python_number_does_not_widen_the_state(dtype: str) -> None:
    def objective(k: Any) -> Any:
        ys = jo.solve(
            lambda t, y, p: -p["k"] * p["half"] * y,
            jnp.ones(2, dtype),
            TS,
            {"k": k, "half": 0.5},
            method="rk4",
            steps=2,
        ).ys
        assert ys.dtype == dtype
        return jnp.sum(ys.real)

    assert_close(jax.grad(objective)(0.7), jnp.array(0.7), rtol=10.0)


class Network(eqx.Module):
    """A field that is a module, with leaves that are no arrays."""

    layers: eqx.nn.MLP
    scale: float
    depth: int

    def __init__(self) -> None:
        self.layers = eqx.nn.MLP(2, 2, width_size=4, depth=1, activation=jnp.tanh, key=jax.random.key(0))
        self.scale, self.depth = 0.5, 2

    def __call__(self, t: Any, y: Any) -> Any:
        for _ in range(self.depth):
            y = self.scale * self.layers(y) * jnp.cos(t)
        return y


def as_params(model: Network, y0: Any) -> Any:
    return jo.solve(lambda t, y, model: model(t, y), y0, TS, model, method="rk4", steps=2).ys


def as_field(model: Network, y0: Any) -> Any:
    return jo.solve(model, y0, TS, method="rk4", steps=2).ys


def as_bound_method(model: Network, y0: Any) -> Any:
    return jo.solve(model.__call__, y0, TS, method="rk4", steps=2).ys


@pytest.fixture(scope="module")
def model_gradient() -> Tree:
    def wanted(model: Network) -> Any:
        return size(textbook("rk4", lambda t, y, model: model(t, y), ARGUMENTS["y0"], jnp.array(TS), model, (2, 2)))

    return eqx.filter_jit(eqx.filter_grad(wanted))(Network())


@pytest.mark.parametrize("solve", [as_params, as_field, as_bound_method])
def test_an_equinox_module(solve: Callable[..., Any], model_gradient: Tree) -> None:
    got = eqx.filter_grad(lambda model: size(solve(model, ARGUMENTS["y0"])))(Network())
    assert_close(got, model_gradient)


@pytest.mark.parametrize("solve", [as_params, as_field])
def test_an_equinox_module_under_filter_jit_and_vmap(solve: Callable[..., Any], model_gradient: Tree) -> None:
    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(model: Network) -> Any:
        return size(jax.vmap(lambda y0: solve(model, y0))(jnp.stack([ARGUMENTS["y0"]] * 2)))

    assert_close(gradient(Network()), jax.tree.map(lambda leaf: 2 * leaf, model_gradient))


# The solution is a pytree.


def solution(y0: Any) -> jo.Solution[Any]:
    def nested(t: Any, y: Tree, k: Any) -> Tree:
        return {"a": field(t, y["a"], k)}

    return jo.solve(nested, {"a": y0}, TS, 0.7, method="rk4", steps=2)


def test_a_solution_leaves_a_jit() -> None:
    got, eager = jax.jit(solution)(ARGUMENTS["y0"]), solution(ARGUMENTS["y0"])
    assert isinstance(got, jo.Solution)
    assert isinstance(got.stats, jo.Stats)
    assert got.message == eager.message == "success"
    assert vars(jax.tree.map(int, got.stats)) == vars(eager.stats)
    assert vars(eager.stats) == {
        "num_steps": 4,
        "num_accepted": 4,
        "num_rejected": 0,
        "num_field_evals": 16,
        "num_vjps": 0,
        "reconstruction_error": None,
        "gradient_error": None,
    }
    assert_close((got.ts, got.ys), (eager.ts, eager.ys))


def test_a_solution_is_batched() -> None:
    got = jax.vmap(solution)(batch("y0"))
    assert {leaf.shape[0] for leaf in jax.tree.leaves(got)} == {3}
    assert got.ys["a"].shape == (3, 3, 2)
    assert got.status.tolist() == [0, 0, 0]
    assert got.stats.num_steps.tolist() == [4, 4, 4]


def test_a_solution_is_mapped_leaf_by_leaf() -> None:
    got = solution(ARGUMENTS["y0"])
    doubled = jax.tree.map(lambda leaf: 2 * leaf, got)
    assert (doubled.stats.num_steps, int(doubled.status)) == (8, 0)
    assert_close((doubled.ts, doubled.ys["a"]), (2 * got.ts, 2 * got.ys["a"]))
    assert jax.tree.structure(doubled) == jax.tree.structure(got)
