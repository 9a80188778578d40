"""Adaptive solves in JAX: the contestants of a benchmark on a field that never comes to rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from janode.jax import solve

from .jax_problem import Solve, field

RTOL, ATOL = 1e-5, 1e-6


def turning(t: Any, y: jax.Array, weights: Any) -> jax.Array:
    """The network, and a turn of the plane in each unit of time."""
    turn = 2.0 * math.pi * jnp.stack([-y[..., 1], y[..., 0]], axis=-1)
    return turn + field(t, y, weights)


def _janode(weights: Any, y0: jax.Array, end: float, adjoint: str) -> Any:
    return solve(turning, y0, [0.0, end], weights, method="tsit5", rtol=RTOL, atol=ATOL, adjoint=adjoint)


def contestants(end: float, presets: Sequence[str], absent: Sequence[str]) -> dict[str, Solve]:
    """Every solve on [0, end] by name."""

    def janode(adjoint: str) -> Solve:
        return lambda weights, y0: _janode(weights, y0, end, adjoint).ys[-1]

    found = {f"janode {preset}": janode(preset) for preset in presets}
    if "diffrax" not in absent:
        import diffrax

        found["diffrax RecursiveCheckpointAdjoint"] = lambda weights, y0: diffrax.diffeqsolve(
            diffrax.ODETerm(turning),
            diffrax.Tsit5(),
            0.0,
            end,
            None,
            y0,
            weights,
            stepsize_controller=diffrax.PIDController(rtol=RTOL, atol=ATOL),
            adjoint=diffrax.RecursiveCheckpointAdjoint(),
        ).ys[-1]
    return found


def accepted_steps(weights: Any, y0: jax.Array, end: float) -> int:
    """How many steps janode accepts."""
    return int(jax.jit(lambda w, y: _janode(w, y, end, "symplectic").stats.num_accepted)(weights, y0))


def in_lanes(solve_one: Solve) -> Callable[[Any, jax.Array], jax.Array]:
    """The solve of every row by itself."""
    return lambda weights, y0: jax.vmap(lambda y: solve_one(weights, y))(y0)
