"""Training with the monitors: where they end, whether the model is valid there, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from janode.core.validity import StepSizeMonitor, ToleranceMonitor
from janode.core.validity_checks import AnyMethod
from janode.core.validity_pairs import paired_steps
from studies.claims import Claim
from studies.parts import Part, Tick

from . import search
from .problems import Array, Problem, batches
from .search import THRESHOLD, Training
from .trainers import Library, Solver, Trainer, adaptive, fixed, make_trainer

BUDGET = 1.5
"""The monitor may take so many times the field evaluations of the best fixed step."""
MOST = 1.25
"""Training goes on beyond its iterations, to so many times as many, while the last check says that it is not valid."""


@dataclass(frozen=True)
class Scale:
    """How the monitors train."""

    interval: int
    """Iterations between checks of the step size."""
    tol: float
    """The first tolerance."""
    tol_interval: int
    tol_iterations: int
    """Iterations with the tolerance monitor, 0 for none."""


def both_tests(h: float) -> list[tuple[AnyMethod, float]]:
    """The paper's test solver, which stands for the ODE, and the next method with the same step.

    A model may do what the ODE does, and what Euler's method with a coarse step does, and nothing that lies between.
    """
    return [paired_steps("euler", h, 1.0), ("midpoint", h)]


def follow(
    trainer: Trainer,
    monitor: StepSizeMonitor | ToleranceMonitor,
    solver: Callable[[str, float], Solver],
    problem: Problem,
    indices: Array,
    iterations: int,
    tick: Tick,
) -> dict[str, Any]:
    """Train as the monitor says, and check on the last batch whenever it is due."""
    total, sizes = 0, [monitor.size]
    for start in range(0, len(indices), monitor.interval):
        if start >= iterations and monitor.is_valid:
            break
        chunk = indices[start : start + monitor.interval]
        total += trainer.train(solver(monitor.method, sizes[-1]), chunk)
        if monitor.is_due(iteration := start + len(chunk)):
            batch = problem.train.batch(chunk[-1])

            def evaluate(method: str, size: float, batch: tuple[Array, Array] = batch) -> tuple[list[float], int]:
                right, num_field_evals = trainer.is_right(solver(method, size), *batch)
                return right[0], num_field_evals

            monitor.update(evaluate, iteration)
            sizes.append(monitor.size)
        if start < iterations:
            tick()
    return {"sizes": sizes, "training_evals": total, "monitor_evals": monitor.num_field_evals}


def parts(library: Library, device: str, name: str, problem: Problem, training: Training, scale: Scale) -> list[Part]:
    """For every run a part with the step-size monitor, and one with the tolerance monitor."""
    runs = range(len(problem.train.labels))

    def drawn(iterations: int, run: int) -> Array:
        return batches(problem, round(MOST * iterations), training.batch, seed=0)[:, run : run + 1]

    def steps(run: int) -> Part:
        def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            own = problem.first(run)
            trainer = make_trainer(library, device, own, training.rate)
            indices = drawn(training.iterations, run)
            first = trainer.start_step(own.train.batch(indices[0])[0])
            monitor = StepSizeMonitor(T=1.0, h=first, interval=scale.interval, test_solver=both_tests)
            result = follow(trainer, monitor, fixed, own, indices, training.iterations, tick)
            return {**result, "accuracies": search.tested(trainer, own, "euler", monitor.h)}

        return Part(f"{name}/monitor/{run}", -(-training.iterations // scale.interval), compute)

    def tolerance(run: int) -> Part:
        def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            own = problem.first(run)
            trainer = make_trainer(library, device, own, training.rate)
            monitor = ToleranceMonitor(tol=scale.tol, min_tol=1e-6, interval=scale.tol_interval)
            indices = drawn(scale.tol_iterations, run)
            result = follow(trainer, monitor, adaptive, own, indices, scale.tol_iterations, tick)
            accuracies = {}
            for place, solver in ((search.TRAINED, adaptive("dopri5", monitor.tol)), (search.ODE, search.FINE)):
                right, _ = trainer.is_right(solver, own.test.points, own.test.labels)
                accuracies[place] = [float(np.mean(right))]
            return {**result, "accuracies": accuracies}

        return Part(f"{name}/tolerance/{run}", -(-scale.tol_iterations // scale.tol_interval), compute)

    return [steps(run) for run in runs] + [tolerance(run) for run in runs if scale.tol_iterations]


def found(results: Mapping[str, Any], name: str, kind: str) -> list[dict[str, Any]]:
    """The results of one kind of monitor, run by run."""
    return [part for key, part in results.items() if key.startswith(f"{name}/{kind}/")]


def costs(results: Mapping[str, Any], name: str) -> list[float]:
    """For each run the field evaluations with the monitor, checks included, over those of the best fixed step."""
    fewest = search.critical_steps(results, name)
    best = [part["num_field_evals"] for part in search.found(results, name) if part["steps"] == fewest]
    if not best:
        return [np.inf]
    return [(run["training_evals"] + run["monitor_evals"]) / best[0] for run in found(results, name, "monitor")]


def claims(results: Mapping[str, Any], name: str) -> list[Claim]:
    """That the monitors end with valid models, and what the steps may cost."""
    made = [
        Claim(
            f"{name}, {what} monitor: largest drop of accuracy under a better solver, all seeds",
            max(search.drops(run)[0] for run in runs),
            high=THRESHOLD,
        )
        for kind, what in (("monitor", "step-size"), ("tolerance", "tolerance"))
        if (runs := found(results, name, kind))
    ]
    most = max(costs(results, name))
    return [
        *made,
        Claim(f"{name}, step-size monitor: field evaluations over the best fixed step's, all seeds", most, high=BUDGET),
    ]
