"""What janode.numpy, janode.cupy and janode.array export alike: some names at once, and those of LATE when used."""

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
from janode.core.knots import Knots
from janode.core.recovery import Symplectic

from .manual import Field, Gradients, Solution, Stats, solve, solve_vjp

__all__ = [
    "Field",
    "Gradients",
    "InputError",
    "JanodeError",
    "Knots",
    "MaxStepsReached",
    "NonFiniteState",
    "PIController",
    "PIDController",
    "Solution",
    "SolveError",
    "Stats",
    "StepSizeUnderflow",
    "Symplectic",
    "solve",
    "solve_vjp",
]

LATE = {
    "core.auto": ("Auto",),
    "core.backsolve": ("Backsolve",),
    "core.events": ("Event",),
    "core.revolve": ("Revolve",),
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
