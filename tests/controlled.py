"""A field with parameters and a pytree of controls, for every library, and its gradients by each frontend."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

import janode.jax
import janode.numpy as jo
import janode.torch

torch.set_num_threads(1)

Y0 = np.array([0.8, -0.3])
P = np.array([[0.2, 1.1], [-0.9, 0.4]])
METHODS = ["euler", "midpoint", "ralston", "heun2", "rk4", "dopri5", "leapfrog", "ab2", "ab3", "ab4"]


def field_of(xp: Any) -> Callable[..., Any]:
    """dy/dt = s tanh(P y + w) + t v: depends on all, linearly on none of the first two leaves."""
    return lambda t, y, p, u: u["s"] * xp.tanh(p @ y + u["w"][0]) + t * u["w"][1]


def vjp(t: Any, y: Any, p: Any, u: Any, f_bar: Any) -> Any:
    """By hand; conjugates nothing, so for real numbers and complex steps alike."""
    z = np.tanh(p @ y + u["w"][0])
    g = u["s"] * (1.0 - z * z) * f_bar
    u_bar = {"s": np.sum(z * f_bar), "w": [g, t * f_bar]}
    return np.sum(u["w"][1] * f_bar), p.T @ g, np.outer(g, y), u_bar


FIELD = jo.Field(field_of(np), vjp)


def controls(num_nodes: int, seed: int = 0) -> dict[str, Any]:
    """Random ones: no two nodes alike."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, num_nodes, 2))
    return {"s": 1.0 + rng.random(num_nodes), "w": [first, second]}


def packed(u: Any) -> np.ndarray:
    """A pytree of controls as an array (M, 5)."""
    parts = (np.asarray(part) for part in (u["s"], u["w"][0], u["w"][1]))
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def ys_bar_of(num_times: int) -> np.ndarray:
    return np.random.default_rng(7).standard_normal((num_times, 2))


Found = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""The gradients of y0, P, ts and, packed, of the controls."""


def by_numpy(ts: Any, u: Any, ys_bar: np.ndarray, **options: Any) -> Found:
    _, pullback = jo.solve_vjp(FIELD, Y0, ts, P, controls=u, **options)
    gradients = pullback(ys_bar)
    return gradients.y0, gradients.params, gradients.ts, packed(gradients.controls)


def by_torch(ts: Any, u: Any, ys_bar: np.ndarray, **options: Any) -> Found:
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in (Y0, P, np.asarray(ts), u["s"], *u["w"])]
    y0, p, times, s, *w = leaves
    ys = janode.torch.solve(field_of(torch), y0, times, p, controls={"s": s, "w": w}, **options).ys
    (ys * torch.tensor(ys_bar)).sum().backward()
    y0_bar, p_bar, ts_bar, s_bar, *w_bar = (leaf.grad.numpy() for leaf in leaves)
    return y0_bar, p_bar, ts_bar, packed({"s": s_bar, "w": w_bar})


def by_jax(ts: Any, u: Any, ys_bar: np.ndarray, **options: Any) -> Found:
    @jax.jit
    def gradient(*arguments: Any) -> Any:
        def loss(y0: Any, p: Any, times: Any, u: Any) -> Any:
            return (janode.jax.solve(field_of(jnp), y0, times, p, controls=u, **options).ys * ys_bar).sum()

        return jax.grad(loss, (0, 1, 2, 3))(*arguments)

    y0_bar, p_bar, ts_bar, u_bar = gradient(*jax.tree.map(jnp.asarray, (Y0, P, np.asarray(ts), u)))
    return np.asarray(y0_bar), np.asarray(p_bar), np.asarray(ts_bar), packed(u_bar)


LIBRARIES = {"torch": by_torch, "jax": by_jax}


def assert_close(found: Found, expected: Found, atol: float) -> None:
    """Relative to the largest entry of each."""
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=0.0, atol=atol * max(1.0, float(np.max(np.abs(wanted)))))
