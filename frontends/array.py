"""janode for any library that speaks the Array API: solve, and manual backprop through the solve."""

from __future__ import annotations

from janode.core.controllers import PIController, PIDController
from janode.core.errors import (
    InputError,
    JanodeError,
    MaxStepsReached,
    NonFiniteState,
    SolveError,
    StepSizeUnderflow,
)

from .controls import Diagnosis, control_times, diagnose_controls, refine_controls
from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp

__all__ = [
    "Diagnosis",
    "Field",
    "Gradients",
    "InputError",
    "JanodeError",
    "MaxStepsReached",
    "NonFiniteState",
    "PIController",
    "PIDController",
    "Solution",
    "SolveError",
    "Stats",
    "StepSizeUnderflow",
    "control_times",
    "diagnose_controls",
    "refine_controls",
    "solve",
    "solve_vjp",
]
