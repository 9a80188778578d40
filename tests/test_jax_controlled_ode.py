"""ControlledODE of JAX: a stack of equal blocks as a pytree, trained with exact or corrected gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import janode.jax as jo
import janode.torch
from janode.core.corrections import oscillation

Y0 = jnp.asarray([0.5, -1.0])
STEPS = 6


def function(p: Any, t: Any, y: Any) -> Any:
    return jnp.tanh(p["W"] @ y + p["b"]) + 0.1 * t


def block(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    parameters = {"W": jnp.asarray(rng.standard_normal((2, 2))), "b": jnp.asarray(rng.standard_normal(2))}
    return jax.tree_util.Partial(function, parameters)


def loss(layer: Any, y0: Any = Y0) -> Any:
    return (layer(y0) ** 2).sum()


def parameters(layer: Any) -> Any:
    return layer.block.args[0]


@pytest.mark.parametrize("is_jitted", [False, True])
def test_it_is_the_stack_written_by_hand(is_jitted: bool) -> None:
    blocks = [block(n) for n in range(STEPS + 1)]
    layer = jo.ControlledODE(blocks, method="leapfrog", steps=STEPS)
    h = 1.0 / STEPS
    before, now = Y0, Y0 + h * blocks[0](0.0, Y0)
    for n, one in enumerate(blocks[1:-1], 1):
        before, now = now, before + 2.0 * h * one(n * h, now)
    found = (jax.jit(lambda layer: layer(Y0)) if is_jitted else lambda layer: layer(Y0))(layer)
    np.testing.assert_allclose(found, now, rtol=1e-14)


def test_sampled_by_steps_it_is_a_residual_network() -> None:
    blocks = [block(n) for n in range(STEPS)]
    layer = jo.ControlledODE(blocks, (0.0, 3.0), method="euler", steps=STEPS, sampling="steps", correction="none")
    y = Y0
    for n, one in enumerate(blocks):
        y = y + 0.5 * one(0.5 * n, y)
    np.testing.assert_allclose(layer(Y0), y, rtol=1e-14)


@pytest.mark.parametrize("correction", ["none", "filter", "consistent"])
def test_gradients_are_those_of_the_same_layer_in_torch(correction: str) -> None:
    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            start = block().args[0]
            self.W, self.b = (torch.nn.Parameter(torch.tensor(np.asarray(start[name]))) for name in ("W", "b"))

        def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.tanh(self.W @ y + self.b) + 0.1 * t

    options: dict[str, Any] = {"method": "leapfrog", "steps": STEPS, "correction": correction}
    expected = janode.torch.ControlledODE(Block(), **options)
    (expected(torch.tensor(np.asarray(Y0))) ** 2).sum().backward()
    found = parameters(jax.jit(jax.grad(loss))(jo.ControlledODE(block(), **options)))
    for name in ("W", "b"):
        wanted = getattr(expected.block, name).grad.numpy()
        np.testing.assert_allclose(found[name], wanted, rtol=0.0, atol=1e-12)


def test_its_gradient_is_corrected_by_default() -> None:
    rough, smooth = (
        parameters(jax.grad(loss)(jo.ControlledODE(block(), steps=40, **options)))["b"][1:-1]
        for options in ({"correction": "none"}, {})
    )
    assert float(oscillation(jnp, (rough,))) > 0.3 > 0.01 > float(oscillation(jnp, (smooth,)))


def test_it_trains_as_a_pytree_of_its_parameters() -> None:
    @jax.jit
    def update(layer: Any) -> Any:
        value, slopes = jax.value_and_grad(loss)(layer)
        return value, jax.tree.map(lambda p, g: p - 2.0 * g, layer, slopes)

    layer, values = jo.ControlledODE(block(), method="midpoint", steps=8), []
    for _ in range(60):
        value, layer = update(layer)
        values.append(float(value))
    assert values[-1] < 0.1 * values[0]
    assert isinstance(layer, jo.ControlledODE)
    assert len(jax.tree.leaves(layer)) == 2


def test_modules_of_equinox_are_blocks() -> None:
    class Net(eqx.Module):
        mlp: eqx.nn.MLP

        def __call__(self, t: Any, y: Any) -> Any:
            return self.mlp(y)

    layer = jo.ControlledODE(Net(eqx.nn.MLP(2, 2, 8, 1, key=jax.random.key(0))), method="midpoint", steps=4)
    slopes = jax.grad(loss)(layer, Y0.astype(jnp.result_type(float)))
    assert slopes.block.mlp.layers[0].weight.shape == (8, 8, 2)
    assert slopes.block.mlp.activation is layer.block.mlp.activation


def test_a_refined_layer_is_the_same_function() -> None:
    layer = jo.ControlledODE([block() for _ in range(STEPS + 1)], method="leapfrog", steps=STEPS)
    times = jnp.asarray(layer.times)
    layer = jax.tree.map(lambda leaf: leaf * jnp.cos(times).reshape(-1, *(1,) * (leaf.ndim - 1)), layer)
    finer = layer.refined(80)
    assert len(finer.times) == 81
    assert finer.block.args[0]["W"].shape == (81, 2, 2)
    np.testing.assert_allclose(finer.refined(160)(Y0), finer(Y0), atol=1e-3)
    np.testing.assert_allclose(finer(Y0), layer(Y0), atol=0.05)


def test_it_maps_over_a_batch() -> None:
    layer = jo.ControlledODE(block(), steps=STEPS)
    batch = jnp.stack([Y0, 2.0 * Y0])
    np.testing.assert_allclose(jax.vmap(layer)(batch), jnp.stack([layer(y) for y in batch]), rtol=1e-14)


def other(p: Any, t: Any, y: Any) -> Any:
    return p["W"] @ y


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: [block()] * 3, r"block must be one block, or 7 of them, one for each node; got 3. control_times"),
        (
            lambda: [block()] * 6 + [jax.tree_util.Partial(other, block().args[0])],
            "all blocks must be one pytree of one set of shapes; got another in block 6 than in block 0",
        ),
        (
            lambda: [block()] * 6 + [jax.tree_util.Partial(function, {"W": jnp.eye(3), "b": jnp.ones(3)})],
            "all blocks must be one pytree of one set of shapes; got another in block 6 than in block 0",
        ),
        (lambda: lambda t, y: y, "block must be a pytree with at least one array; got none. Give a module of Equinox"),
        (
            lambda: jax.tree_util.Partial(function, {"W": jnp.eye(2, dtype=int)}),
            "the arrays of a block must be floating-point; got int",
        ),
    ],
    ids=["number", "structure", "shape", "no array", "integers"],
)
def test_refusals(make: Any, text: str) -> None:
    with pytest.raises(jo.InputError, match=rf"ControlledODE: {text}"):
        jo.ControlledODE(make(), method="leapfrog", steps=STEPS)
