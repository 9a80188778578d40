"""A benchmark's field in JAX: what a solver of it is asked for, compiled, and the memory of the compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .fields import Problem
from .measure import Thunk

Solve = Callable[[Any, jax.Array], jax.Array]
"""(weights, y0) -> the state at the last time."""


def field(t: Any, y: jax.Array, weights: Any) -> jax.Array:
    """The network."""
    for i, (weight, bias) in enumerate(weights):
        y = (jnp.tanh(y) if i else y) @ weight.T + bias
    return y


class JaxProblem:
    """One problem on the default device of JAX."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.weights = [
            (jnp.asarray(entry["weight"]), jnp.asarray(entry["bias"])) for entry in problem.params() if entry
        ]
        self.y0 = jnp.asarray(problem.y0())

    def compile(self, solve: Solve, task: str) -> Any:
        """The compiled program of a task: a `forward` solve, or the `gradient` of the sum of the last state."""

        def loss(weights: Any, y0: jax.Array) -> jax.Array:
            return solve(weights, y0).sum()

        def forward(weights: Any, y0: jax.Array) -> jax.Array:
            return solve(weights, y0)

        function = forward if task == "forward" else jax.grad(loss, argnums=(1, 0))
        return jax.jit(function).lower(self.weights, self.y0).compile()

    def run(self, program: Any, is_solve: bool = True) -> Thunk:
        """A call of a compiled program that waits for its results."""

        def thunk() -> Any:
            results = jax.tree.leaves(jax.block_until_ready(program(self.weights, self.y0)))
            return results if is_solve else None

        return thunk

    def evaluations(self, steps: int) -> Any:
        """A program of 4 evaluations of the field in each turn of a loop; each takes the last one's output.

        An evaluation at the same state would be hoisted out of the loop.
        """

        def body(y: jax.Array, _: Any) -> tuple[jax.Array, None]:
            for _ in range(4):
                y = field(0.0, y, self._traced)
            return y, None

        return self._loop(body, lambda y0: y0, steps)

    def pullbacks(self, steps: int) -> Any:
        """Likewise of 4 evaluations with their VJPs, the weights' cotangents summed up."""

        def body(carry: Any, _: Any) -> tuple[Any, None]:
            y, total = carry
            for _ in range(4):
                out, pull = jax.vjp(lambda y, weights: field(0.0, y, weights), y, self._traced)
                y, addend = pull(out)
                total = jax.tree.map(jnp.add, total, addend)
            return (y, total), None

        return self._loop(body, lambda y0: (y0, jax.tree.map(jnp.zeros_like, self._traced)), steps)

    def _loop(self, body: Any, start: Any, steps: int) -> Any:
        def program(weights: Any, y0: jax.Array) -> Any:
            self._traced = weights
            return jax.lax.scan(body, start(y0), length=steps)[0]

        return jax.jit(program).lower(self.weights, self.y0).compile()


def program_bytes(program: Any) -> int:
    """The bytes of a compiled program's temporaries and outputs."""
    memory = program.memory_analysis()
    return memory.temp_size_in_bytes + memory.output_size_in_bytes
