"""residual_stack of janode.jax: the gradients of the plain loop, stacked and listed, under every transformation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import janode.jax as jo

SCHEMES = ("euler", "heun", "leapfrog")
EXACT = [("euler", "symplectic"), ("heun", "symplectic"), ("leapfrog", "symplectic"), ("leapfrog", "reconstruct")]
LAYOUTS = ("stacked", "listed")
DEPTH = 4


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


X, SHIFT = normal(1, 4, 3), normal(2, 3)


def weights(depth: int = DEPTH) -> dict[str, jax.Array]:
    return {"w": 0.7 * normal(3, depth, 3, 3), "b": normal(4, depth, 3)}


def entries(stacked: Any) -> list[Any]:
    return [jax.tree.map(lambda leaf, n=n: leaf[n], stacked) for n in range(len(jax.tree.leaves(stacked)[0]))]


def block(x: jax.Array, entry: dict[str, jax.Array], shift: Any = 0.0) -> jax.Array:
    return jnp.tanh(x @ entry["w"] + entry["b"]) + shift * x


def written_out(scheme: str, fn: Callable[..., Any], listed: list[Any], x: Any, *extra: Any, step: float) -> Any:
    """The stack in plain JAX."""
    if scheme == "euler":
        for entry in listed:
            x = x + step * fn(x, entry, *extra)
    elif scheme == "heun":
        for entry, following in zip(listed, [*listed[1:], listed[-1]], strict=True):
            slope = fn(x, entry, *extra)
            x = x + step / 2 * (slope + fn(x + step * slope, following, *extra))
    else:
        before, x = x, x + step * fn(x, listed[0], *extra)
        for entry in listed[1:]:
            before, x = x, before + 2 * step * fn(x, entry, *extra)
    return x


def total(output: jax.Array) -> jax.Array:
    return jnp.sum(jnp.linspace(0.3, 1.1, output.size).reshape(output.shape) * output**2)


def of_layout(layout: str, stacked: Any) -> Any:
    return entries(stacked) if layout == "listed" else stacked


def assert_equal(got: Any, expected: Any, rtol: float = 1e-13) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert float(jnp.max(jnp.abs(b))) > 0.0
        np.testing.assert_allclose(a, b, rtol=0.0, atol=rtol * float(jnp.max(jnp.abs(b))))


@pytest.mark.parametrize("depth", [1, 4])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_output_is_that_of_the_layers_written_out(scheme: str, layout: str, depth: int) -> None:
    stacked = weights(depth)
    run = jax.jit(lambda stacked: jo.residual_stack(block, of_layout(layout, stacked), X, SHIFT, scheme=scheme))
    assert_equal(run(stacked), written_out(scheme, block, entries(stacked), X, SHIFT, step=1 / depth), 1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_gradient_is_that_of_the_layers_written_out(scheme: str, adjoint: str, layout: str) -> None:
    def loss(stacked: Any, x: jax.Array, shift: jax.Array, captured: jax.Array) -> jax.Array:
        fn = lambda x, entry, shift: captured * block(x, entry, shift)  # noqa: E731
        given = of_layout(layout, stacked)
        return total(jo.residual_stack(fn, given, x, shift, scheme=scheme, adjoint=adjoint, step=0.15))

    def expected(stacked: Any, x: jax.Array, shift: jax.Array, captured: jax.Array) -> jax.Array:
        fn = lambda x, entry, shift: captured * block(x, entry, shift)  # noqa: E731
        return total(written_out(scheme, fn, entries(stacked), x, shift, step=0.15))

    arguments = weights(), X, SHIFT, jnp.array(1.2)
    places = (0, 1, 2, 3)
    assert_equal(jax.jit(jax.grad(loss, places))(*arguments), jax.jit(jax.grad(expected, places))(*arguments))


@pytest.mark.parametrize(
    ("scheme", "adjoint", "order"),
    [("euler", "reconstruct", 1.0), ("euler", "predict", 2.0), ("heun", "reconstruct", 2.0)],
)
def test_reconstructed_gradient_converges_with_the_depth(scheme: str, adjoint: str, order: float) -> None:
    def error(depth: int) -> float:
        t = jnp.arange(depth)[:, None, None] / depth
        stacked = {"w": jnp.cos(t + normal(5, 3, 3)), "b": jnp.sin(t[:, 0] + normal(6, 3))}

        def gradient(adjoint: str) -> jax.Array:
            run = lambda x: total(jo.residual_stack(block, stacked, x, scheme=scheme, adjoint=adjoint))  # noqa: E731
            return jax.jit(jax.grad(run))(X)

        exact = gradient("symplectic")
        return float(jnp.linalg.norm(gradient(adjoint) - exact) / jnp.linalg.norm(exact))

    errors = [error(depth) for depth in (20, 80)]
    assert 0.0 < errors[1] < errors[0] / 4 ** (order - 0.15)


def test_predicted_gradient_is_that_of_pytorch_for_stacked_and_listed_blocks() -> None:
    import torch

    from janode.torch import ResidualStack

    def loss(x: jax.Array, params: Any) -> jax.Array:
        return total(jo.residual_stack(lambda x, w: jnp.tanh(x @ w), params, x, adjoint="predict"))

    w = weights()["w"]
    linears = [torch.nn.Linear(3, 3, bias=False, dtype=torch.float64) for _ in w]
    for linear, entry in zip(linears, w, strict=True):
        linear.weight.data = torch.tensor(np.asarray(entry.T))
    x = torch.tensor(np.asarray(X), requires_grad=True)
    stack = ResidualStack([torch.nn.Sequential(linear, torch.nn.Tanh()) for linear in linears], adjoint="predict")
    factors = torch.tensor(np.asarray(jnp.linspace(0.3, 1.1, x.numel()))).reshape(x.shape)
    with pytest.warns(RuntimeWarning, match="missed the initial state"):
        (factors * stack(x) ** 2).sum().backward()
    stacked, listed = (jax.jit(jax.grad(loss))(X, params) for params in (w, list(w)))
    assert_equal(stacked, listed)
    assert_equal(stacked, jnp.asarray(x.grad.numpy()))


@pytest.mark.parametrize(("scheme", "adjoint"), EXACT)
def test_blocks_of_a_list_may_differ(scheme: str, adjoint: str) -> None:
    def doubled(x: jax.Array, entry: None) -> jax.Array:
        return jnp.sin(2.0 * x)

    def scaled(x: jax.Array, entry: jax.Array) -> jax.Array:
        return entry * x**2

    blocks, tied = [block, scaled, doubled, scaled], jnp.array(0.3)

    def fn(x: jax.Array, pair: Any) -> jax.Array:
        return pair[0](x, pair[1])

    def listed(stacked: Any, tied: jax.Array) -> list[Any]:
        return [entries(stacked)[0], tied, None, tied]

    def loss(stacked: Any, tied: jax.Array) -> jax.Array:
        return total(jo.residual_stack(blocks, listed(stacked, tied), X, scheme=scheme, adjoint=adjoint))

    def expected(stacked: Any, tied: jax.Array) -> jax.Array:
        pairs = list(zip(blocks, listed(stacked, tied), strict=True))
        return total(written_out(scheme, fn, pairs, X, step=0.25))

    assert_equal(
        jax.jit(jax.grad(loss, (0, 1)))(weights(1), tied), jax.jit(jax.grad(expected, (0, 1)))(weights(1), tied)
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("scheme", "adjoint"), [("heun", "symplectic"), ("leapfrog", "reconstruct")])
def test_gradient_works_under_vmap_and_with_integers(scheme: str, adjoint: str, layout: str) -> None:
    def fn(x: jax.Array, entry: Any, place: jax.Array) -> jax.Array:
        return block(x, entry) * jnp.take(SHIFT, place)

    def loss(x: jax.Array, place: jax.Array) -> jax.Array:
        return total(jo.residual_stack(fn, of_layout(layout, weights()), x, place, scheme=scheme, adjoint=adjoint))

    def expected(x: jax.Array, place: jax.Array) -> jax.Array:
        return total(written_out(scheme, fn, entries(weights()), x, place, step=1 / DEPTH))

    places = jnp.array([0, 2, 1, 1])
    got, wanted = (jax.jit(jax.vmap(jax.grad(each)))(X, places) for each in (loss, expected))
    assert_equal(got, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("scheme", "adjoint"), [("heun", "reconstruct"), ("leapfrog", "symplectic")])
def test_state_may_be_a_tree_of_single_precision(scheme: str, adjoint: str, layout: str) -> None:
    state = {"u": X.astype(jnp.float32), "v": SHIFT.astype(jnp.float32)}
    given = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), weights())

    def fn(x: dict[str, jax.Array], entry: Any) -> dict[str, jax.Array]:
        return {"u": block(x["u"], entry) * x["v"], "v": jnp.sum(x["u"], 0)}

    def loss(state: Any, given: Any) -> jax.Array:
        out = jo.residual_stack(fn, of_layout(layout, given), state, scheme=scheme, adjoint=adjoint, step=0.01)
        return total(out["u"]) + total(out["v"])

    bars = jax.jit(jax.grad(loss, (0, 1)))(state, given)
    assert {leaf.dtype for leaf in jax.tree.leaves(bars)} == {jnp.dtype("float32")}
    assert jax.tree.structure(bars) == jax.tree.structure((state, given))


@pytest.mark.parametrize("scheme", ["euler", "leapfrog"])
def test_memory_does_not_grow_with_depth(scheme: str) -> None:
    def temporaries(depth: int) -> int:
        def loss(stacked: jax.Array, x: jax.Array) -> jax.Array:
            return total(jo.residual_stack(lambda x, w: jnp.tanh(w * x), stacked, x, scheme=scheme))

        shapes = jax.ShapeDtypeStruct((depth,), jnp.float64), jax.ShapeDtypeStruct((1000,), jnp.float64)
        return jax.jit(jax.grad(loss)).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    few, many = temporaries(20), temporaries(200)
    assert many - few < 10 * 8000  # not one state more for each of the 180 layers


def test_errors_of_the_way_back_are_those_of_its_inverse_steps() -> None:
    stacked, h = weights(), 0.1
    errors = jo.residual_errors(block, stacked, X, step=h)
    states = [written_out("euler", block, entries(stacked)[:n], X, step=h) for n in range(DEPTH + 1)]
    y, expected = states.pop(), []
    for entry, state in reversed(list(zip(entries(stacked), states, strict=True))):
        y = y - h * block(y, entry)
        expected.insert(0, float(jnp.linalg.norm(y - state) / jnp.linalg.norm(state)))
    np.testing.assert_allclose(errors, expected, rtol=1e-10)


def test_the_way_back_by_leapfrog_has_no_error() -> None:
    errors = jo.residual_errors(block, weights(), X, scheme="leapfrog")
    assert errors.shape == (DEPTH,)
    assert float(errors.max()) < 1e-14


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        pytest.param((block, [], X), {}, "blocks must be at least one; got none", id="none"),
        pytest.param((block, weights(), X), {"scheme": "eular"}, "scheme must be one of: euler", id="scheme"),
        pytest.param((block, weights(), X), {"adjoint": "aca"}, "adjoint must be one of", id="adjoint"),
        pytest.param(
            (block, weights(), X),
            {"scheme": "heun", "adjoint": "predict"},
            "'predict' must have scheme \"euler\"",
            id="predict",
        ),
        pytest.param((block, weights(), X), {"step": -1.0}, "step must be a positive finite number", id="step"),
        pytest.param((block, weights(), jnp.arange(3)), {}, "x must be a real or complex floating-point", id="int-x"),
        pytest.param((block, weights(), {}), {}, "x must have at least one array", id="no-x"),
        pytest.param((block, {"w": jnp.arange(3)}, X), {}, r"params\['w'\] must be a real or complex", id="int-params"),
        pytest.param((block, {"w": X, "b": SHIFT}, X), {}, r"got params\['b'\]: 3, params\['w'\]: 4", id="depths"),
        pytest.param((block, {}, X), {}, "stacked params must be arrays with one leading axis", id="no-params"),
        pytest.param(([block], weights(), X), {}, "a list of 1 blocks must come with a list of as many", id="stacked"),
        pytest.param(([block], [None, None], X), {}, "got 2 entries", id="counts"),
        pytest.param(
            (lambda x, entry: x[: entry.shape[0]], [jnp.ones(4), jnp.ones(2)], X),
            {},
            r"residual_stack, block 1: the field must return .*\(4, 3\).* for x; got .*\(2, 3\)",
            id="shape",
        ),
    ],
)
def test_bad_argument_is_refused(arguments: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(jo.InputError, match=text):
        jo.residual_stack(*arguments, **options)
