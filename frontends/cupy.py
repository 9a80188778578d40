"""janode for CuPy: solve, and manual backprop through the solve. Arrays need a CUDA device; importing needs none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from janode.core.backsolve import Backsolve
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

from .late import late
from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp

if TYPE_CHECKING:
    from .controls import Diagnosis, control_times, diagnose_controls, refine_controls
    from .manual_jvp import solve_jvp
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
    "Backsolve",
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
    "solve_jvp",
    "solve_vjp",
    "starting_step",
    "validate",
]

__getattr__ = late(
    __name__,
    {
        "controls": ("Diagnosis", "control_times", "diagnose_controls", "refine_controls"),
        "manual_jvp": ("solve_jvp",),
        "validity": (
            "Check",
            "Discrepancies",
            "Entry",
            "StepSizeMonitor",
            "ToleranceMonitor",
            "Validity",
            "checksum",
            "plot_validity",
            "relative_distance",
            "show_validity",
            "starting_step",
            "validate",
        ),
    },
)


def __dir__() -> list[str]:
    return __all__
