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
from janode.core.solution import Solution, Stats

from .controls import Diagnosis, control_times, diagnose_controls, refine_controls
from .torch_modules import ControlledODE, NeuralODE
from .torch_solve import solve

__all__ = [
    "ControlledODE",
    "Diagnosis",
    "InputError",
    "JanodeError",
    "MaxStepsReached",
    "NeuralODE",
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
]
