"""What janode.numpy, janode.cupy and janode.array export alike: some names at once, and those of LATE when used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from janode.core.auto import Auto
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

from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp

__all__ = [
    "Auto",
    "Backsolve",
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
    "StepSizeUnderflow",
    "Symplectic",
    "solve",
    "solve_vjp",
]

LATE = {
    "controls": (
        "Diagnosis",
        "control_times",
        "diagnose_controls",
        "refine_controls",
        "sample_controls",
        "smooth_controls",
    ),
    "manual_explain": ("Plan", "explain"),
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
}

NAMES = [*__all__, *(name for names in LATE.values() for name in names)]

if TYPE_CHECKING:
    from .controls import (
        Diagnosis,
        control_times,
        diagnose_controls,
        refine_controls,
        sample_controls,
        smooth_controls,
    )
    from .manual_explain import Plan, explain
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

    # For type checkers, which take what LATE finds for a name like any other.
    __all__ += ["Diagnosis", "Plan", "control_times", "diagnose_controls", "explain", "refine_controls", "solve_jvp"]
    __all__ += ["sample_controls", "smooth_controls"]
    __all__ += ["Check", "Discrepancies", "Entry", "StepSizeMonitor", "ToleranceMonitor", "Validity", "checksum"]
    __all__ += ["plot_validity", "relative_distance", "show_validity", "starting_step", "validate"]
