"""DETEST solved by janode and by its peers: evaluations of the field and error at the end, problem by problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from .detest import END, PROBLEMS, Problem, end_value
from .measure import Case, Race

TOLERANCES = {"1e-3": 1e-3, "1e-6": 1e-6, "1e-9": 1e-9}
"""rtol and atol alike, by name."""
_LEAST_ERROR = 1e-14
"""Errors below are those of the reference."""


class Run(NamedTuple):
    """What one solve took and gave."""

    evaluations: int
    y: np.ndarray


class Pair(NamedTuple):
    """A method of janode and the peer that it is held against, both of one order."""

    method: str
    peer: str
    order: int

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{self.method} and {self.peer}"


PAIRS = (Pair("dopri5", "scipy RK45", 5), Pair("tsit5", "diffrax Tsit5", 5), Pair("dopri8", "scipy DOP853", 8))


def work_race(pair: Pair, tolerance: str, problems: Sequence[Problem] = PROBLEMS) -> Race:
    """One sample per problem: the evaluations, the largest error at the end, and the work for an error of one.

    The work is evaluations times error^(1/order): with twice the evaluations a method of that order has an error
    2^order times smaller, so two solves of equal work lie on one line of the work-precision diagram.
    """
    tol = TOLERANCES[tolerance]
    contestants = {f"janode {pair.method}": partial(_janode, pair.method), pair.peer: _PEERS[pair.peer]}
    race = Race(Case("numpy", f"DETEST, tolerance {tolerance}", 0, pair.name, "evaluations"))
    for name, solve in contestants.items():
        samples: dict[str, list[float]] = {"evaluations": [], "error": [], "work": []}
        for problem in problems:
            run = solve(problem, tol)
            error = max(float(np.max(np.abs(run.y - end_value(problem.name)))), _LEAST_ERROR)
            samples["evaluations"].append(float(run.evaluations))
            samples["error"].append(error)
            samples["work"].append(run.evaluations * error ** (1.0 / pair.order))
        race.samples[name] = samples
    return race


def _with_numpy(problem: Problem) -> Callable[[Any, Any], Any]:
    return lambda t, y: problem.field(t, y, np)


def _janode(method: str, problem: Problem, tol: float) -> Run:
    from janode.numpy import solve

    y0 = np.array(problem.y0)
    solution = solve(_with_numpy(problem), y0, [0.0, END], method=method, rtol=tol, atol=tol)
    return Run(solution.stats.num_field_evals, solution.ys[-1])


def _scipy(method: str, problem: Problem, tol: float) -> Run:
    from scipy.integrate import solve_ivp

    found = solve_ivp(_with_numpy(problem), (0.0, END), problem.y0, method=method, rtol=tol, atol=tol)
    return Run(found.nfev, found.y[:, -1])


def _diffrax(problem: Problem, tol: float) -> Run:
    import jax

    with jax.enable_x64(True):
        y, steps = _diffrax_program(problem.name)(jax.numpy.asarray(problem.y0), tol)
        # Six in each step tried, and the first stage of the first one: its size is 0.01 without a look at the field.
        return Run(6 * int(steps) + 1, np.asarray(y))


@cache
def _diffrax_program(name: str) -> Callable[[Any, Any], Any]:
    import diffrax
    import jax

    field = next(problem.field for problem in PROBLEMS if problem.name == name)
    term = diffrax.ODETerm(lambda t, y, args: field(t, y, jax.numpy))

    def program(y0: Any, tol: Any) -> Any:
        controller = diffrax.PIDController(rtol=tol, atol=tol)
        found = diffrax.diffeqsolve(
            term, diffrax.Tsit5(), 0.0, END, None, y0, stepsize_controller=controller, max_steps=100_000
        )
        return found.ys[-1], found.stats["num_steps"]

    return jax.jit(program)


_PEERS: dict[str, Callable[[Problem, float], Run]] = {
    "scipy RK45": partial(_scipy, "RK45"),
    "scipy DOP853": partial(_scipy, "DOP853"),
    "diffrax Tsit5": _diffrax,
}
