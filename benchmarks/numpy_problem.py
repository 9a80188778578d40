"""A benchmark's field in NumPy, with the hand-written VJP of its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .fields import Problem
from .measure import Thunk


class NumpyProblem:
    """One problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.field = problem, problem.network
        self.params, self.y0 = problem.params(), problem.y0()

    def evaluations(self, count: int) -> Thunk:
        """The field alone."""
        t = np.zeros((), np.float32)

        def run() -> None:
            for _ in range(count):
                self.field(t, self.y0, self.params)

        return run

    def pullbacks(self, count: int) -> Thunk:
        """The field and its VJP alone."""
        t, bar = np.zeros((), np.float32), np.ones_like(self.y0)

        def run() -> None:
            for _ in range(count):
                self.field.vjp(t, self.y0, self.params, bar)

        return run

    def gradient(self, solve_vjp: Callable[[], tuple[Any, Any]]) -> Thunk:
        """The gradient of the sum of the last state with respect to y0 and all weights."""

        def run() -> list[np.ndarray]:
            solution, pullback = solve_vjp()
            ys_bar = np.zeros_like(solution.ys)
            ys_bar[-1] = 1.0
            found = pullback(ys_bar)
            return [found.y0, *(array for entry in found.params if entry for array in entry.values())]

        return run
