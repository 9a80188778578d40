"""Training with fixed steps, and testing with other solvers: the search for the step that the monitor saves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from janode.core.validity_pairs import num_steps, paired_steps
from studies.claims import Claim
from studies.parts import Part, Tick

from .problems import Problem, batches
from .trainers import Library, Solver, Trainer, fixed, make_trainer

COARSE_DROP, FINE_DROP, THRESHOLD = 0.2, 0.02, 0.1
FACTORS = (2.0, 1.0, 0.5)
METHODS = ("euler", "midpoint", "rk4")
FINE = Solver("rk4", 64)
TRAINED, TEST, ODE = "trained", "test solver", "ODE"
"""Accuracies by the training solver, by what a monitor tests it with, and by FINE, which stands for the ODE."""
CHUNK = 50
"""Batches that are trained on at once, between two ticks."""


@dataclass(frozen=True)
class Training:
    """How a problem is trained."""

    steps: tuple[int, ...]
    """The numbers of steps on [0, 1] of the search, coarse to fine."""
    iterations: int
    rate: float
    batch: int = 128


def tested(trainer: Trainer, problem: Problem, method: str, step: float) -> dict[str, list[float]]:
    """The accuracies of all runs: by the training solver, by what a monitor tests it with, by the ODE, by others."""
    steps = num_steps(step, 1.0)
    solvers = {TRAINED: Solver(method, steps), TEST: fixed(*paired_steps(method, 1.0 / steps, 1.0)), ODE: FINE}
    for other in METHODS:
        for factor in FACTORS:
            if (other, factor) != (method, 1.0) and steps >= factor:
                solvers[f"{other} x {factor:g}"] = Solver(other, round(steps / factor))
    found = {}
    for name, solver in solvers.items():
        right, _ = trainer.is_right(solver, problem.test.points, problem.test.labels)
        found[name] = [float(np.mean(run)) for run in right]
    return found


def drops(part: Mapping[str, Any]) -> list[float]:
    """For each run by how much the accuracy falls from the training solver's to the worst better solver's.

    Better are those of the same or a higher order with the same or smaller steps.
    """
    accuracies = part["accuracies"]
    better = [accuracies[name] for name in accuracies if name != TRAINED and not name.endswith(" x 2")]
    return (np.array(accuracies[TRAINED]) - np.min(better, axis=0)).tolist()


def parts(library: Library, device: str, name: str, problem: Problem, scale: Training) -> list[Part]:
    """A part for every number of steps."""

    def part(steps: int) -> Part:
        def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            trainer = make_trainer(library, device, problem, scale.rate)
            total = 0
            for chunk in _chunks(problem, scale):
                total += trainer.train(Solver("euler", steps), chunk)
                tick()
            accuracies = tested(trainer, problem, "euler", 1.0 / steps)
            return {"steps": steps, "num_field_evals": total, "accuracies": accuracies}

        return Part(f"{name}/steps/{steps}", len(_chunks(problem, scale)), compute)

    return [part(steps) for steps in scale.steps]


def _chunks(problem: Problem, scale: Training) -> list[Any]:
    indices = batches(problem, scale.iterations, scale.batch, seed=0)
    return [indices[first : first + CHUNK] for first in range(0, scale.iterations, CHUNK)]


def found(results: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The results of the search, coarse to fine."""
    return [part for key, part in results.items() if key.startswith(f"{name}/steps/")]


def critical_steps(results: Mapping[str, Any], name: str) -> int | None:
    """The fewest steps from which on all runs are valid, or None."""
    fewest = None
    for part in reversed(found(results, name)):
        if max(drops(part)) > THRESHOLD:
            break
        fewest = part["steps"]
    return fewest


def claims(results: Mapping[str, Any], name: str) -> list[Claim]:
    """That coarse training is tied to its solver and fine training is not."""
    coarse, *_, fine = found(results, name)
    return [
        Claim(
            f"{name}, {coarse['steps']} step(s): least drop of accuracy under a better solver, all seeds",
            min(drops(coarse)),
            low=COARSE_DROP,
        ),
        Claim(
            f"{name}, {fine['steps']} steps: largest drop of accuracy under a better solver, all seeds",
            max(drops(fine)),
            high=FINE_DROP,
        ),
    ]
