"""janode for PyTorch: solve with gradients through autograd, and fields as layers."""

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

from .controls import (
    Diagnosis,
    control_times,
    diagnose_controls,
    refine_controls,
    sample_controls,
    smooth_controls,
)
from .explain import make_explain
from .torch_jvp import solve_jvp
from .torch_modules import ControlledODE, NeuralODE
from .torch_monitor import MonitorCallback
from .torch_odeint import odeint, odeint_adjoint, odeint_dense, odeint_event
from .torch_residual import ResidualStack, deepen
from .torch_resnet import from_resnet
from .torch_solve import solve
from .torch_stack_reports import GradientGap, gradient_gap, kept_bytes, ode_gap, reconstruction_errors
from .torch_validity import checksum, relative_distance, starting_step, validate
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
    "GradientGap",
    "InputError",
    "JanodeError",
    "Knots",
    "MaxStepsReached",
    "MonitorCallback",
    "NeuralODE",
    "NonFiniteState",
    "OdeGap",
    "PIController",
    "PIDController",
    "Plan",
    "ResidualStack",
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
    "deepen",
    "diagnose_controls",
    "explain",
    "from_resnet",
    "gradient_gap",
    "kept_bytes",
    "ode_gap",
    "odeint",
    "odeint_adjoint",
    "odeint_dense",
    "odeint_event",
    "plot_validity",
    "reconstruction_errors",
    "refine_controls",
    "relative_distance",
    "sample_controls",
    "show_validity",
    "smooth_controls",
    "solve",
    "solve_jvp",
    "starting_step",
    "validate",
]

explain = make_explain(solve)
