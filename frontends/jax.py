"""janode for JAX: solve with gradients through ``custom_vjp``."""

from __future__ import annotations

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
from janode.core.ode_gap import OdeGap
from janode.core.plan import Plan
from janode.core.recovery import Symplectic
from janode.core.revolve import Revolve
from janode.core.solution import Solution, Stats

from .explain import make_explain
from .jax_controls import (
    Diagnosis,
    control_times,
    diagnose_controls,
    refine_controls,
    sample_controls,
    smooth_controls,
)
from .jax_jvp import solve_jvp
from .jax_modules import ControlledODE
from .jax_odeint import odeint
from .jax_residual import residual_stack
from .jax_solve import solve
from .jax_stack_reports import ode_gap, residual_errors
from .jax_validity import checksum, relative_distance, starting_step, validate
from .validity import Check, Discrepancies, Entry, StepSizeMonitor, ToleranceMonitor, Validity
from .validity_report import plot_validity, show_validity

__all__ = [
    "Auto",
    "Backsolve",
    "Check",
    "ControlledODE",
    "Diagnosis",
    "Discrepancies",
    "Entry",
    "Event",
    "InputError",
    "JanodeError",
    "Knots",
    "MaxStepsReached",
    "NonFiniteState",
    "OdeGap",
    "PIController",
    "PIDController",
    "Plan",
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
    "explain",
    "ode_gap",
    "odeint",
    "plot_validity",
    "refine_controls",
    "relative_distance",
    "residual_errors",
    "residual_stack",
    "sample_controls",
    "show_validity",
    "smooth_controls",
    "solve",
    "solve_jvp",
    "starting_step",
    "validate",
]

explain = make_explain(solve)
