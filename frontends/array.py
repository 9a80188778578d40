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
from janode.core.events import Event
from janode.core.knots import Knots
from janode.core.recovery import Symplectic
from janode.core.revolve import Revolve

from .controls import Diagnosis, control_times, diagnose_controls, refine_controls
from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp
from .validity import (
    Check,
    Discrepancies,
    Entry,
    StepSizeMonitor,
    ToleranceMonitor,
    Validity,
    checksum,
    plot_validity,
    relative_distance,
    show_validity,
    starting_step,
    validate,
)

__all__ = [
    "Check",
    "Diagnosis",
    "Discrepancies",
    "Entry",
    "Event",
    "Field",
    "Gradients",
    "InputError",
    "JanodeError",
    "Knots",
    "MaxStepsReached",
    "NonFiniteState",
    "PIController",
    "PIDController",
    "Revolve",
    "Solution",
    "SolveError",
    "Stats",
    "StepSizeMonitor",
    "StepSizeUnderflow",
    "Symplectic",
    "ToleranceMonitor",
    "Validity",
    "checksum",
    "control_times",
    "diagnose_controls",
    "plot_validity",
    "refine_controls",
    "relative_distance",
    "show_validity",
    "solve",
    "solve_vjp",
    "starting_step",
    "validate",
]
