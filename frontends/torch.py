"""janode for PyTorch: solve with gradients through autograd, and fields as layers."""

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
from janode.core.revolve import Revolve
from janode.core.solution import Solution, Stats

from .controls import Diagnosis, control_times, diagnose_controls, refine_controls
from .torch_modules import ControlledODE, NeuralODE
from .torch_odeint import odeint, odeint_adjoint
from .torch_residual import ResidualStack, deepen
from .torch_solve import solve
from .torch_validity import checksum, relative_distance, starting_step, validate
from .validity import Check, Discrepancies, Entry, StepSizeMonitor, ToleranceMonitor, Validity
from .validity_report import plot_validity, show_validity

__all__ = [
    "Check",
    "ControlledODE",
    "Diagnosis",
    "Discrepancies",
    "Entry",
    "InputError",
    "JanodeError",
    "MaxStepsReached",
    "NeuralODE",
    "NonFiniteState",
    "PIController",
    "PIDController",
    "ResidualStack",
    "Revolve",
    "Solution",
    "SolveError",
    "Stats",
    "StepSizeMonitor",
    "StepSizeUnderflow",
    "ToleranceMonitor",
    "Validity",
    "checksum",
    "control_times",
    "deepen",
    "diagnose_controls",
    "odeint",
    "odeint_adjoint",
    "plot_validity",
    "refine_controls",
    "relative_distance",
    "show_validity",
    "solve",
    "starting_step",
    "validate",
]
