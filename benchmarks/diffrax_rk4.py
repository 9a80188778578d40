"""The classical Runge-Kutta method as a record of diffrax, which ships no explicit method of four stages."""

from __future__ import annotations

import diffrax
import numpy as np

from .jax_problem import Solve, field


class RK4(diffrax.AbstractERK):
    """With constant steps no error estimate is used; its weights must only sum to zero."""

    tableau = diffrax.ButcherTableau(
        c=np.array([0.5, 0.5, 1.0]),
        a_lower=(np.array([0.5]), np.array([0.0, 0.5]), np.array([0.0, 0.0, 1.0])),
        b_sol=np.array([1 / 6, 1 / 3, 1 / 3, 1 / 6]),
        b_error=np.array([1 / 6, 1 / 3, 1 / 3, -5 / 6]),
    )
    interpolation_cls = diffrax.ThirdOrderHermitePolynomialInterpolation.from_k

    def order(self, terms: object) -> int:
        return 4


def solve(steps: int, adjoint: diffrax.AbstractAdjoint) -> Solve:
    """A solve on [0, 1] with constant steps."""
    return lambda weights, y0: diffrax.diffeqsolve(
        diffrax.ODETerm(field), RK4(), 0.0, 1.0, 1.0 / steps, y0, weights, adjoint=adjoint, max_steps=steps + 1
    ).ys[-1]
