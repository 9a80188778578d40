"""The study's stacks in JAX."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import janode.jax as jo

from .problem import Array, Weights, layer

jax.config.update("jax_enable_x64", True)
_layer = partial(layer, jnp.tanh)


def gap(weights: Weights, x: Array, device: str) -> jo.OdeGap:
    """How far Euler's stack is from its ODE."""
    entries = {name: jnp.asarray(values) for name, values in weights.items()}
    return jo.ode_gap(_layer, entries, jnp.asarray(x), substeps=2)


def gradient(weights: Weights, x: Array, scheme: str, adjoint: str, device: str) -> Array:
    """The gradient of ||x_N||^2 / 2 with respect to all weights, as one vector."""

    def loss(weights: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(jo.residual_stack(_layer, weights, x, scheme=scheme, adjoint=adjoint) ** 2) / 2

    bars = jax.jit(jax.grad(loss))({name: jnp.asarray(values) for name, values in weights.items()})
    return np.concatenate([np.asarray(bar).ravel() for bar in bars.values()])


def peak_bytes(depth: int, sizes: tuple[int, int, int], scheme: str, adjoint: str, device: str) -> int:
    """The bytes of the compiled gradient's temporaries, as XLA reports them."""
    size, width, batch = sizes

    def loss(entry: dict[str, jax.Array], x: jax.Array) -> jax.Array:
        def block(x: jax.Array, place: jax.Array, entry: dict[str, jax.Array]) -> jax.Array:
            return _layer(x, entry)

        return jnp.sum(jo.residual_stack(block, jnp.zeros(depth), x, entry, scheme=scheme, adjoint=adjoint))

    shapes = {"v": (size, width), "w": (width, size), "b": (width,)}
    entry = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    x = jax.ShapeDtypeStruct((batch, size), jnp.float32)
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(entry, x).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)
