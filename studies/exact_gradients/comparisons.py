"""The symplectic adjoint against the continuous one and against backpropagation: accuracy, rounding, memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from studies.parts import Tick

from .problems import Problem, density
from .solvers import DOUBLE_SUMS, MakeRuns, Solver, distance, times

RIVALS = ("symplectic", "backsolve")
METHOD = "dopri5"
FINE = Solver("dopri8", "symplectic", tol=1e-11)
"""Stands for the gradient of the continuous problem."""
ACCURACY = 1e-4
"""The error for which times are compared."""


def precision(make: MakeRuns, problem: Problem, tols: Sequence[float], rounds: int, device: str, tick: Tick) -> Any:
    """Errors of the gradient, and its time, with adaptive steps of several tolerances.

    ``errors`` are those against backpropagation through the same steps, ``distances`` those from the gradient of the
    continuous problem.
    """
    runs = make(problem, device, "float64")
    limit = runs.measure(FINE).gradient
    keys = ("errors", "distances", "seconds")
    found: dict[str, dict[str, list[float]]] = {name: {key: [] for key in keys} for name in RIVALS}
    thunks = {}
    for tol in tols:
        exact = runs.measure(Solver(METHOD, "backprop", tol=tol)).gradient
        for name in RIVALS:
            solver = Solver(METHOD, name, tol=tol)
            gradient = runs.measure(solver).gradient
            found[name]["errors"].append(distance(gradient, exact))
            found[name]["distances"].append(distance(gradient, limit))
            thunks[f"{name} {tol}"] = runs.thunk(solver)
        tick()
    seconds = times(thunks, rounds, device)
    for name in RIVALS:
        found[name]["seconds"] = [float(np.median(seconds[f"{name} {tol}"])) for tol in tols]
    tick()
    return found


def time_at_equal_error(found: Any, kind: str) -> float:
    """The time of the symplectic adjoint over that of the continuous one, each for an error of ``ACCURACY``."""
    ours, theirs = (_time_for(ACCURACY, found[name][kind], found[name]["seconds"]) for name in RIVALS)
    return ours / theirs


def _time_for(accuracy: float, errors: Sequence[float], seconds: Sequence[float]) -> float:
    """Interpolated between the first tolerance that is accurate enough, loose to tight, and the one before it.

    NaN where none is, the time of the loosest where that is.
    """
    near = [k for k, error in enumerate(errors) if error <= accuracy]
    if not near or near[0] == 0:
        return seconds[0] if near else np.nan
    around = slice(near[0], near[0] - 2 if near[0] > 1 else None, -1)
    return float(np.exp(np.interp(np.log(accuracy), np.log(errors[around]), np.log(seconds[around]))))


SINGLE = (*RIVALS, DOUBLE_SUMS)


def rounding(make: MakeRuns, problem: Problem, steps: Sequence[int], device: str, tick: Tick) -> Any:
    """Error of gradients in float32 against backpropagation in float64 through the same steps from the same numbers."""
    double, single = (make(problem.rounded(), device, dtype) for dtype in ("float64", "float32"))
    found: dict[str, list[float]] = {name: [] for name in SINGLE}
    for count in steps:
        expected = double.measure(Solver(METHOD, "backprop", count)).gradient
        for name in SINGLE:
            found[name].append(distance(single.measure(Solver(METHOD, name, count)).gradient, expected))
        tick()
    return found


GROWN = ("symplectic", "aca", "backprop")
SIZES = {"as it is": (1, 1), "twice the batch": (2, 1), "four times the width": (1, 4)}
"""Factors of batch and width."""


def growth(make: MakeRuns, batch: int, width: int, steps: Sequence[int], device: str, tick: Tick) -> Any:
    """Peak memory against the number of steps, for each size of state and network, and the size of a state."""
    found: dict[str, Any] = {}
    for size, (batches, widths) in SIZES.items():
        problem = density(batch * batches, width * widths)
        runs = make(problem, device, "float64")
        found[size] = {"state": problem.state_bytes}
        for name in GROWN:
            found[size][name] = []
            for count in steps:
                found[size][name].append(runs.measure(Solver(METHOD, name, count)).peak)
                tick()
    return found


def per_step(peaks: Sequence[int], steps: Sequence[int]) -> float:
    """By how many bytes the memory grows with each step."""
    return (peaks[-1] - peaks[0]) / (steps[-1] - steps[0])
