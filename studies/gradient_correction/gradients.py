"""The gradient of the controls of a fixed-step solve, on each array library, through what its users call."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from importlib import import_module
from typing import Any

import numpy as np

import janode.numpy as jo
from janode.core.corrections import trapezoid_weights

from .problems import DURATION, Array, Problem

Solve = Callable[[Array], tuple[Array, Array]]
"""Controls at the nodes -> the last state, and the gradient of the controls; all in NumPy, in double precision."""

SPAN = [0.0, DURATION]


class Library(StrEnum):
    """The array libraries."""

    NUMPY = "numpy"
    TORCH = "torch"
    JAX = "jax"


def label(correction: str) -> str:
    """A correction's name in tables and figures."""
    return "raw" if correction == "none" else correction


def node_times(method: str, num_steps: int) -> Array:
    """The times of the controls."""
    return np.array(jo.control_times(method, SPAN, steps=num_steps))


def node_weights(method: str, num_steps: int) -> Array:
    """The trapezoid weights w_k of these times: the gradient of node k is w_k g(t_k).

    From times counted in steps, so that near nodes lose no digits.
    """
    times = jo.control_times(method, [0.0, float(num_steps)], steps=num_steps)
    return np.array(trapezoid_weights(times)) * (DURATION / num_steps)


def per_time(method: str, num_steps: int, gradient: Array) -> Array:
    """The gradient of the nodes as a function of time, g(t_k)."""
    weights = node_weights(method, num_steps)
    return gradient / weights.reshape(-1, *[1] * (gradient.ndim - 1))


def make_solve(library: Library, problem: Problem, method: str, num_steps: int, correction: str) -> Solve:
    """The solve on a library."""
    make = {Library.NUMPY: _numpy, Library.TORCH: _torch, Library.JAX: _jax}[library]
    return make(problem, {"method": method, "steps": num_steps, "correction": correction})


def _numpy(problem: Problem, options: dict[str, Any]) -> Solve:
    field = jo.Field(lambda t, z, u: problem.field(np, z, u), lambda t, z, u, f_bar: (None, *problem.vjp(z, u, f_bar)))

    def solve(controls: Array) -> tuple[Array, Array]:
        solution, pullback = jo.solve_vjp(field, problem.start, SPAN, controls=controls, **options)
        end = solution.ys[-1]
        bar = problem.shift + problem.scale * end
        return end, pullback(np.stack([np.zeros_like(bar), bar])).controls

    return solve


def _torch(problem: Problem, options: dict[str, Any]) -> Solve:
    torch, solver = import_module("torch"), import_module("janode.torch")
    start, shift = torch.tensor(problem.start), torch.tensor(problem.shift)

    def solve(controls: Array) -> tuple[Array, Array]:
        u = torch.tensor(controls, requires_grad=True)
        end = solver.solve(lambda t, z, u: problem.field(torch, z, u), start, SPAN, controls=u, **options).ys[-1]
        end.backward(shift + problem.scale * end.detach())
        return end.detach().numpy(), u.grad.numpy()

    return solve


def _jax(problem: Problem, options: dict[str, Any]) -> Solve:
    jax, jnp, solver = import_module("jax"), import_module("jax.numpy"), import_module("janode.jax")
    jax.config.update("jax_enable_x64", True)
    start, shift = jnp.asarray(problem.start), jnp.asarray(problem.shift)

    @jax.jit
    def compiled(controls: Any) -> tuple[Any, Any]:
        def last(u: Any) -> Any:
            return solver.solve(lambda t, z, u: problem.field(jnp, z, u), start, SPAN, controls=u, **options).ys[-1]

        end, pull = jax.vjp(last, controls)
        return end, pull(shift + problem.scale * end)[0]

    def solve(controls: Array) -> tuple[Array, Array]:
        end, gradient = compiled(controls)
        return np.asarray(end), np.asarray(gradient)

    return solve
