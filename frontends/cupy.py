"""janode for CuPy: solve, and manual backprop through the solve. Arrays need a CUDA device; importing needs none."""

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
