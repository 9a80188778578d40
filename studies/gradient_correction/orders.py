"""Errors of raw and corrected gradients against the step size, and the orders at which they fall.

Also the errors of the raw gradient's moments: where a control is sum_k c_k phi_k(t) with fixed smooth phi_k, dL/dc_k is
sum_n phi_k(t_n) raw_n, and converges without any correction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studies.claims import Claim, order_of
from studies.parts import Part, Tick

from .gradients import Library, label, make_solve, node_times, per_time
from .problems import DURATION, Affine, Array, ClosedProblem, Tanh

PROBLEMS: tuple[ClosedProblem, ...] = (Affine(), Tanh())
TOLERANCE = 0.15
FLAT = 0.05
FIRST = 80
"""Orders are measured from this number of steps on."""
COARSE = (20, 40, 80)
"""Where gradients of order 5 are exact to rounding at FIRST steps, their order is measured here."""
MOMENTS = "moments"


@dataclass(frozen=True)
class Row:
    """A gradient and the order that is stated of it; 0 where it does not converge."""

    method: str
    gradient: str
    order: int
    is_coarse: bool = False

    @property
    def label(self) -> str:
        """The gradient in words."""
        return f"raw, {MOMENTS}" if self.gradient == MOMENTS else label(self.gradient)

    @property
    def correction(self) -> str:
        """The correction that gives it."""
        return "none" if self.gradient == MOMENTS else self.gradient

    def steps(self, scale: Sequence[int]) -> list[int]:
        """The numbers of steps of a scale at which it is measured."""
        return list(COARSE) if self.is_coarse else list(scale)

    def claim(self, problem: str, steps: Sequence[int], errors: Sequence[float]) -> Claim:
        """That its order is as stated; above it counts too where the leading error is not yet seen at COARSE."""
        pairs = [(n, e) for n, e in zip(steps, errors, strict=True) if self.is_coarse or n >= FIRST]
        tolerance = TOLERANCE if self.order else FLAT
        value = order_of(*zip(*pairs, strict=True))
        high = np.inf if self.is_coarse else self.order + tolerance
        return Claim(f"{problem}, {self.method}, {self.label}: order", value, self.order - tolerance, high)


def _rows(method: str, order: int, raw: int = 0, **corrected: int) -> list[Row]:
    is_fifth = order == 5
    rows = [Row(method, "none", raw), Row(method, MOMENTS, order, is_fifth)]
    return rows + [Row(method, name, found, is_fifth and name == "consistent") for name, found in corrected.items()]


ROWS: tuple[Row, ...] = (
    *_rows("leapfrog", 2, filter=2, filter_descent=1, adjoint_average=2, consistent=2),
    *_rows("midpoint", 2, filter=2, consistent=2),
    *_rows("ralston", 2, divide=1, filter=2, consistent=2),
    *_rows("heun2", 2, raw=2, filter=2, consistent=2),
    *_rows("rk4", 4, filter=4, consistent=4),
    *_rows("dopri5", 5, filter=5, consistent=5),
    *_rows("tsit5", 5, filter=5, consistent=5),
    *_rows("ab2", 2, filter=2, consistent=2),
    *_rows("ab3", 3, filter=3, consistent=3),
    *_rows("ab4", 4, filter=4, consistent=4),
)


def shapes(t: Array) -> Array:
    """phi_k(t), shape (M, 6): smooth and fixed."""
    s = t / DURATION
    return np.stack([np.ones_like(s), s, np.cos(np.pi * s), np.cos(2 * np.pi * s), np.sin(np.pi * s), np.exp(s)], 1)


def exact_moments(problem: ClosedProblem) -> Array:
    """The integrals of phi_k g, by Gauss's rule on 60 points."""
    x, w = np.polynomial.legendre.leggauss(60)
    t, w = DURATION * (x + 1) / 2, DURATION * w / 2
    return np.tensordot(shapes(t) * w[:, None], problem.gradient(t), axes=(0, 0))


def error(library: Library, problem: ClosedProblem, row: Row, num_steps: int) -> float:
    """The largest error over all nodes, or of all moments, relative to the largest entry of what is exact."""
    times = node_times(row.method, num_steps)
    solve = make_solve(library, problem, row.method, num_steps, row.correction)
    _, gradient = solve(problem.controls(times))
    if row.gradient == MOMENTS:
        found, exact = np.tensordot(shapes(times), gradient, axes=(0, 0)), exact_moments(problem)
    else:
        found, exact = per_time(row.method, num_steps, gradient), problem.gradient(times)
    return float(np.max(np.abs(found - exact)) / np.max(np.abs(exact)))


def parts(library: Library, scale: Sequence[int]) -> list[Part]:
    """A part for every problem and row: the steps and the errors."""

    def part(problem: ClosedProblem, row: Row) -> Part:
        steps = row.steps(scale)

        def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            errors = []
            for n in steps:
                errors.append(error(library, problem, row, n))
                tick()
            return {"steps": steps, "errors": errors}

        return Part(part_name(problem.name, row), len(steps), compute)

    return [part(problem, row) for row in ROWS for problem in PROBLEMS]


def part_name(problem: str, row: Row) -> str:
    """The name of the part of a row."""
    return f"orders/{problem}/{row.method}/{row.gradient}"


def claims(results: Mapping[str, Any]) -> dict[tuple[str, Row], Claim]:
    """The claim of every problem and row."""
    found = {}
    for row in ROWS:
        for problem in PROBLEMS:
            result = results[part_name(problem.name, row)]
            found[problem.name, row] = row.claim(problem.name, result["steps"], result["errors"])
    return found
