"""The study's gradients in JAX, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import janode.jax as jo
from benchmarks.jax_problem import program_bytes

from .problems import Problem
from .solvers import Found, Solver

jax.config.update("jax_enable_x64", True)


class JaxRuns:
    """One problem, its arrays on one device in one dtype."""

    def __init__(self, problem: Problem, device: str, dtype: str) -> None:
        self.problem = problem
        place = jax.devices(device)[0]
        self.y0, self.weights, self.data = jax.tree.map(
            lambda array: jax.device_put(jnp.asarray(array, dtype), place), (problem.y0, problem.weights, problem.data)
        )
        self.programs: dict[Solver, Any] = {}

    def measure(self, solver: Solver) -> Found:
        """The gradient, and the bytes of the program's temporaries and results."""
        program = self._compiled(solver)
        bars = jax.tree.leaves(program(self.y0, self.weights, self.data))
        gradient = np.concatenate([np.asarray(bar, dtype=float).ravel() for bar in bars])
        return Found(gradient, int(program_bytes(program)), None, None)

    def thunk(self, solver: Solver) -> Callable[[], None]:
        """A call of the compiled program."""
        program = self._compiled(solver)
        return lambda: jax.block_until_ready(program(self.y0, self.weights, self.data)) and None

    def _compiled(self, solver: Solver) -> Any:
        if solver not in self.programs:
            self.programs[solver] = self._compile(solver)
        return self.programs[solver]

    def _compile(self, solver: Solver) -> Any:
        def loss(y0: Any, weights: Any, data: Any) -> Any:
            solution = jo.solve(self._field, y0, self.problem.ts, weights, **solver.options(jo))
            return self.problem.loss(jnp, solution.ys, data)

        gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
        return gradient.lower(self.y0, self.weights, self.data).compile()

    def _field(self, t: Any, y: Any, weights: Any) -> Any:
        return self.problem.field(jnp, t, y, weights)
