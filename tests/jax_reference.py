"""A problem of real and complex leaves in JAX, and Runge-Kutta steps by the book that JAX differentiates itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from janode.core.tableaus import TABLEAUS

Tree = Any

jit = functools.partial(
    jax.jit,
    # Exactness does not depend on what the compiler does for speed; without it, it is five times faster itself.
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
        "xla_disable_hlo_passes": "fusion,cpu-instruction-fusion",
    },
)

Y0 = {"x": jnp.array([0.4, -0.9]), "z": jnp.array(0.3 + 0.8j)}
PARAMS = {"A": jnp.array([[-0.5, 1.7], [-1.3, 0.2]]), "b": jnp.array(0.6), "w": jnp.array(0.2 - 1.1j)}
TS = jnp.array([0.25, 0.5, 1.5])


def field(t: Any, y: Tree, p: Tree) -> Tree:
    """A field that depends on everything and is not holomorphic."""
    size = (y["z"] * y["z"].conj()).real
    return {
        "x": jnp.cos(t) * (p["A"] @ jnp.tanh(y["x"])) + p["b"] * (t * t) * size,
        "z": p["w"] * y["z"] - 0.3 * t * y["z"].conj() * y["x"][0],
    }


def loss(ys: Tree) -> Any:
    """A real number that depends on every entry of a solution in another way."""
    total = jnp.zeros(())
    for leaf in jax.tree.leaves(ys):
        weights = jnp.cos(jnp.arange(leaf.size, dtype=leaf.real.dtype)).reshape(leaf.shape)
        total += jnp.sum(weights * leaf.real) + jnp.sum(weights**2 * leaf.imag)
    return total


def textbook(method: str, field: Callable[..., Tree], y0: Tree, ts: Any, params: Tree, counts: Sequence[int]) -> Tree:
    """The states at all ts by the method's definition, every stage evaluated."""
    c, a, b = (getattr(TABLEAUS[method].floats, name) for name in "cab")

    def moved(y: Tree, h: Any, weights: Sequence[float], slopes: Sequence[Tree]) -> Tree:
        for weight, slope in zip(weights, slopes, strict=True):
            y = jax.tree.map(lambda leaf, k, w=weight: leaf + (h * w).astype(leaf.real.dtype) * k, y, slope)
        return y

    def step(y: Tree, place: tuple[Any, Any]) -> tuple[Tree, Tree]:
        t, h = place
        slopes: list[Tree] = []
        for node, row in zip(c, a, strict=True):
            slopes.append(field(t + node * h, moved(y, h, row, slopes), params))
        y = moved(y, h, b, slopes)
        return y, y

    sizes = [(ts[k + 1] - ts[k]) / count for k, count in enumerate(counts)]
    places = [(ts[k] + n * sizes[k], sizes[k]) for k, count in enumerate(counts) for n in range(count)]
    _, states = jax.lax.scan(step, y0, tuple(map(jnp.stack, zip(*places, strict=True))))
    ends = np.cumsum(counts) - 1
    return jax.tree.map(lambda first, rows: jnp.concatenate([first[None], rows[ends]]), y0, states)


def assert_close(got: Tree, expected: Tree, rtol: float = 1e-13) -> None:
    """The same structure, shapes and dtypes, and values equal relative to the largest of each leaf."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for (path, leaf), wanted in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(expected), strict=True):
        assert (leaf.shape, leaf.dtype) == (wanted.shape, wanted.dtype), path
        scale = float(np.max(np.abs(wanted), initial=0.0))
        np.testing.assert_allclose(leaf, wanted, rtol=0.0, atol=rtol * scale, err_msg=jax.tree_util.keystr(path))


def equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """All equations of a jaxpr and of those within it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda leaf: isinstance(leaf, ClosedJaxpr | Jaxpr)):
            if isinstance(value, ClosedJaxpr | Jaxpr):
                yield from equations(getattr(value, "jaxpr", value))
