"""janode for CuPy: solve, and manual backprop through the solve. Arrays need a CUDA device; importing needs none."""

from __future__ import annotations

from janode.core.errors import InputError, JanodeError, NonFiniteState, SolveError

from .controls import Diagnosis, control_times, diagnose_controls, refine_controls
from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp

__all__ = [
    "Diagnosis",
    "Field",
    "Gradients",
    "InputError",
    "JanodeError",
    "NonFiniteState",
    "Solution",
    "SolveError",
    "Stats",
    "control_times",
    "diagnose_controls",
    "refine_controls",
    "solve",
    "solve_vjp",
]
