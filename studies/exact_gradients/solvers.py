"""How a gradient is taken: the method, its steps or its tolerance, and the adjoint; and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.measure import Case, Effort, Thunk, race

from .problems import Problem

EXACT = ("backprop", "stages", "aca", "symplectic", "restart", "revolve", "reversible")
APPROXIMATE = ("reconstruct", "backsolve")
PRESETS = (*EXACT, *APPROXIMATE)
CHECKPOINTS = 5
"""Of ``revolve``."""
DOUBLE_SUMS = "symplectic, float64 sums"
"""``symplectic`` with the weights' cotangents summed in float64."""
MAX_STEPS = 400
"""Of adaptive steps. JAX's backpropagation through them goes through so many."""


@dataclass(frozen=True)
class Solver:
    """One way to a gradient; steps are adaptive where ``tol``, relative and absolute, stands instead of ``steps``."""

    method: str
    adjoint: str
    steps: int | None = None
    tol: float = 0.0

    def options(self, jo: ModuleType) -> dict[str, Any]:
        """The options of a frontend's ``solve``."""
        adjoint: Any = self.adjoint
        if self.adjoint == "revolve":
            adjoint = jo.Revolve(checkpoints=CHECKPOINTS)
        elif self.adjoint == DOUBLE_SUMS:
            adjoint = jo.Symplectic(accumulate="float64")
        adaptive = {"rtol": self.tol, "atol": self.tol, "max_steps": MAX_STEPS}
        return {
            "method": self.method,
            "adjoint": adjoint,
            **(adaptive if self.steps is None else {"steps": self.steps}),
        }


class Found(NamedTuple):
    """A gradient with respect to initial state and weights as one vector, and what it took.

    ``peak`` is in bytes. ``evals`` and ``vjps`` count how often the field and its VJP were computed, None where a
    compiler decides.
    """

    gradient: np.ndarray
    peak: int
    evals: int | None
    vjps: int | None


class Runs(Protocol):
    """The gradients of one problem on one array library."""

    def measure(self, solver: Solver) -> Found:
        """The gradient with its memory and counts."""

    def thunk(self, solver: Solver) -> Callable[[], None]:
        """The gradient and nothing else, to be timed; waits for the device."""


MakeRuns = Callable[[Problem, str, str], Runs]
"""(problem, device, dtype) -> its gradients."""


def distance(gradient: np.ndarray, expected: np.ndarray) -> float:
    """The relative error."""
    return float(np.linalg.norm(gradient - expected) / np.linalg.norm(expected))


def times(thunks: Mapping[str, Thunk], rounds: int, device: str) -> dict[str, np.ndarray]:
    """The seconds of each in every round; all run once a round, so that what else the machine does meets them alike.

    They are those of the processor, or of the wall where another device computes. Call each once before.
    """
    case = Case("", "", 0, "", "gradient")
    found = race(case, thunks, Effort(rounds, rounds, 0.0), is_warm=True, is_compared=False)
    clock = "cpu" if device == "cpu" else "wall"
    return {name: np.array(samples[clock]) for name, samples in found.samples.items()}
