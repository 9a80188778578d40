"""The study put together: its problems at two scales, its claims and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from studies.claims import Claim
from studies.parts import Part
from studies.tables import Table, claims_table

from . import monitored, search
from .problems import Problem, digits, spheres
from .search import Training
from .trainers import Library

SPHERES, PLANE, DIGITS = "spheres", "plane", "digits"
TITLES = {SPHERES: "Spheres, one coordinate added", PLANE: "Spheres in the plane", DIGITS: "Digits"}


@dataclass(frozen=True)
class Scale:
    """How each problem is trained, and for how many seeds; problems that are left out are not in ``training``."""

    seeds: int
    training: dict[str, Training]
    monitored: dict[str, monitored.Scale]


QUICK = Scale(
    3,
    {SPHERES: Training((1, 2, 4, 8, 16), 2000, 1e-3), DIGITS: Training((1, 2, 4, 8, 16), 500, 3e-3)},
    {SPHERES: monitored.Scale(50, 1e-2, 10, 200), DIGITS: monitored.Scale(50, 1e-2, 0, 0)},
)
FULL = Scale(
    5,
    {
        SPHERES: Training((1, 2, 4, 8, 16, 32), 10_000, 1e-4),
        PLANE: Training((1, 4, 16, 64), 10_000, 1e-4),
        DIGITS: Training((1, 2, 4, 8, 16, 32), 2000, 1e-3),
    },
    {SPHERES: monitored.Scale(50, 1e-2, 50, 2000), DIGITS: monitored.Scale(50, 1e-2, 50, 500)},
)


def installed(scale: Scale) -> Scale:
    """The scale without the digits where scikit-learn, which has them, is not installed."""
    if find_spec("sklearn"):
        return scale
    return replace(scale, training={name: one for name, one in scale.training.items() if name != DIGITS})


def problem(name: str, seeds: int) -> Problem:
    """A problem by its name."""
    made = range(seeds)
    return digits(made) if name == DIGITS else spheres(made, 1 if name == SPHERES else 0)


def settings(scale: Scale, library: Library, device: str) -> dict[str, Any]:
    """What the results depend on, as plain data."""
    return {"library": str(library), "device": device, **asdict(scale)}


def parts(scale: Scale, library: Library, device: str) -> list[Part]:
    """All parts."""
    found = []
    for name, training in scale.training.items():
        data = problem(name, scale.seeds)
        found += search.parts(library, device, name, data, training)
        if name in scale.monitored:
            found += monitored.parts(library, device, name, data, training, scale.monitored[name])
    return found


def claims(results: Mapping[str, Any], scale: Scale) -> list[Claim]:
    """All claims; in the plane only that coarse training is tied to its solver."""
    found = []
    for name in scale.training:
        of_search = search.claims(results, name)
        found += of_search + monitored.claims(results, name) if name in scale.monitored else of_search[:1]
    return found


def tables(results: Mapping[str, Any], scale: Scale) -> list[Table]:
    """What was measured, and the claims."""
    made = [_search_table(results, name) for name in scale.training]
    made += [_monitor_table(results, name) for name in scale.training if name in scale.monitored]
    return [*made, claims_table(claims(results, scale))]


def _search_table(results: Mapping[str, Any], name: str) -> Table:
    rows = []
    for part in search.found(results, name):
        found, drops = part["accuracies"], search.drops(part)
        cells = [
            f"{100 * np.mean(found[solver]):.1f}" if solver in found else "-" for solver in _solvers(results, name)
        ]
        rows.append([str(part["steps"]), *cells, f"{100 * min(drops):.1f}", f"{100 * max(drops):.1f}"])
    columns = ["steps", *_solvers(results, name), "least drop", "largest drop"]
    critical = search.critical_steps(results, name)
    tail = "no number of steps is valid" if critical is None else f"valid from {critical} step(s) on"
    return Table(
        f"{TITLES[name]}: accuracy in %, mean of all seeds, trained with Euler's method; {tail}", columns, rows
    )


def _solvers(results: Mapping[str, Any], name: str) -> list[str]:
    """The columns, those of all parts."""
    return list(dict.fromkeys(solver for part in search.found(results, name) for solver in part["accuracies"]))


def _monitor_table(results: Mapping[str, Any], name: str) -> Table:
    rows = []
    costs = [f"{cost:.2f}" for cost in monitored.costs(results, name)]
    for kind, what in (("monitor", "step size"), ("tolerance", "tolerance")):
        for run, part in enumerate(monitored.found(results, name, kind)):
            trained, ode = (f"{100 * part['accuracies'][key][0]:.1f}" for key in (search.TRAINED, search.ODE))
            sizes = (f"{part['sizes'][0]:.3g}", f"{part['sizes'][-1]:.3g}")
            evals = (str(part["training_evals"]), str(part["monitor_evals"]))
            ratio = costs[run] if kind == "monitor" else "-"
            rows.append([what, str(run), *sizes, trained, ode, f"{100 * search.drops(part)[0]:.1f}", *evals, ratio])
    columns = ["monitor", "seed", "first", "last", "accuracy", "as an ODE", "drop"]
    columns += ["evals of training", "of checks", "of the best fixed step's"]
    return Table(f"{TITLES[name]}: training with monitors", columns, rows)


def series(results: Mapping[str, Any], name: str, solver: str) -> tuple[list[int], Sequence[float]]:
    """(numbers of steps, mean accuracies by a solver), where it was used."""
    used = [part for part in search.found(results, name) if solver in part["accuracies"]]
    return [part["steps"] for part in used], [float(np.mean(part["accuracies"][solver])) for part in used]
