"""janode for NumPy: solve, and manual backprop through the solve."""

from __future__ import annotations

from janode.core.errors import InputError, JanodeError, NonFiniteState, SolveError

from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp

__all__ = [
    "Field",
    "Gradients",
    "InputError",
    "JanodeError",
    "NonFiniteState",
    "Solution",
    "SolveError",
    "Stats",
    "solve",
    "solve_vjp",
]
