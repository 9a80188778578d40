"""Every preset of the adjoint table on one problem with one method: error, memory, time and counts."""

from __future__ import annotations

from typing import Any

import numpy as np

from studies.parts import Tick

from .problems import Problem
from .solvers import PRESETS, MakeRuns, Solver, distance, times

NUM_TICKS = len(PRESETS) + 1


def measured(make: MakeRuns, problem: Problem, method: str, steps: int, rounds: int, device: str, tick: Tick) -> Any:
    """For each preset the error of its gradient in float64 against that of backpropagation, and what it takes.

    ``"reversible"`` needs a reversible method: the one made of this, whose own backpropagation it is held against.
    """
    runs = make(problem, device, "float64")
    paired = f"reversible({method})"
    solvers = {name: Solver(paired if name == "reversible" else method, name, steps) for name in PRESETS}
    expected = {name: runs.measure(Solver(name, "backprop", steps)) for name in (method, paired)}
    found: dict[str, Any] = {}
    for name, solver in solvers.items():
        run = expected[method] if name == "backprop" else runs.measure(solver)
        error = distance(run.gradient, expected[solver.method].gradient)
        found[name] = {"error": error, "bytes": run.peak, "evals": run.evals, "vjps": run.vjps}
        tick()
    seconds = times({name: runs.thunk(solver) for name, solver in solvers.items()}, rounds, device)
    for name, entry in found.items():
        entry["seconds"] = float(np.median(seconds[name]))
        entry["times"] = float(np.median(seconds[name] / seconds["backprop"]))
    tick()
    return found
