"""The classical Runge-Kutta method as a record of torchode, which ships Euler, Heun, Dopri5 and Tsit5 alone."""

from __future__ import annotations

from typing import Any

import torch
import torchode
from torchode.interpolation import ThirdOrderPolynomialInterpolation
from torchode.single_step_methods.runge_kutta import ButcherTableau, ExplicitRungeKutta

from .torch_problem import Solve


class RK4(ExplicitRungeKutta):
    """With fixed steps no error estimate is used, so its weights are zero."""

    TABLEAU = ButcherTableau.from_lists(
        c=[0.0, 0.5, 0.5, 1.0],
        a=[[], [0.5], [0.0, 0.5], [0.0, 0.0, 1.0]],
        b=[1 / 6, 1 / 3, 1 / 3, 1 / 6],
        b_err=[0.0, 0.0, 0.0, 0.0],
    )

    def __init__(self, term: torchode.ODETerm) -> None:
        super().__init__(term, self.TABLEAU)

    def convergence_order(self) -> int:
        return 4

    def build_interpolation(self, data: Any) -> Any:
        return ThirdOrderPolynomialInterpolation.from_k(data.t0, data.dt, data.y0, data.y1, data.k)


def solve(field: torch.nn.Module, steps: int, adjoint: str) -> Solve:
    """A solve on [0, 1] with the adjoint class of that name, every state of the batch with times of its own."""
    term, controller = torchode.ODETerm(field), torchode.FixedStepController()
    kind = getattr(torchode, adjoint)
    solver = kind(RK4(term), controller) if adjoint == "AutoDiffAdjoint" else kind(term, RK4(term), controller)

    def run(y0: torch.Tensor) -> torch.Tensor:
        start = torch.zeros(len(y0), device=y0.device)
        problem = torchode.InitialValueProblem(y0, start, start + 1.0)
        # Times are summed up in float32: steps of 1 / N would miss the end by a little and take one more.
        together = 1 if adjoint == "JointBacksolveAdjoint" else len(y0)
        return solver.solve(problem, dt0=(start[:together] + 1.0001) / steps).ys[:, -1]

    return run
