"""The study put together: its parts at two scales, its claims and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from studies.claims import Claim
from studies.parts import Part, Tick
from studies.tables import Table, claims_table

from . import agreement, comb, orders, training
from .gradients import Library, label, make_solve, node_times, per_time
from .problems import Tanh

CURVES = ("leapfrog", "midpoint", "ralston")
CURVE_STEPS = 40
"""Gradients are kept as functions of time, for the figure, at this number of steps."""


@dataclass(frozen=True)
class Scale:
    """How much is computed: numbers of steps, and what of training."""

    orders: tuple[int, ...]
    training: training.Scale
    comb: tuple[int, ...]
    compares_libraries: bool


QUICK = Scale((80, 160, 320), training.Scale((20, 40, 80), 100, 80, 40), (90, 150, 350), False)
FULL = Scale(
    (20, 40, 80, 160, 320, 640),
    training.Scale((20, 40, 80, 160, 320), 400, 320, 40),
    (45, 90, 150, 190, 270, 350, 530),
    True,
)


def settings(scale: Scale, library: Library) -> dict[str, Any]:
    """What the results depend on, as plain data."""
    return {"library": str(library), **asdict(scale)}


def parts(scale: Scale, library: Library) -> list[Part]:
    """All parts."""
    found = [_curve(library, method) for method in CURVES] + orders.parts(library, scale.orders)
    found += comb.parts(library, scale.comb) + training.parts(library, scale.training)
    return found + (agreement.parts() if scale.compares_libraries else [])


def claims(results: Mapping[str, Any], scale: Scale) -> list[Claim]:
    """All claims."""
    return [*orders.claims(results).values(), *_other_claims(results, scale)]


def tables(results: Mapping[str, Any], scale: Scale) -> list[Table]:
    """What was measured, and the claims; those on orders are in their own table."""
    return [
        _orders_table(results),
        _training_table(results, scale.training),
        _comb_table(results, scale.comb),
        claims_table(_other_claims(results, scale)),
    ]


def _other_claims(results: Mapping[str, Any], scale: Scale) -> list[Claim]:
    found = training.claims(results, scale.training) + comb.claims(results, scale.comb)
    return found + agreement.claims(results)


def _curve(library: Library, method: str) -> Part:
    """The raw and the filtered gradient of W_11 at the nodes."""

    def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
        problem, times = Tanh(), node_times(method, CURVE_STEPS)
        result: dict[str, Any] = {"times": times.tolist()}
        for correction in ("none", "filter"):
            _end, gradient = make_solve(library, problem, method, CURVE_STEPS, correction)(problem.controls(times))
            result[correction] = per_time(method, CURVE_STEPS, gradient)[:, 0, 0].tolist()
        tick()
        return result

    return Part(f"curve/{method}", 1, compute)


def _orders_table(results: Mapping[str, Any]) -> Table:
    found = orders.claims(results)
    columns = ["method", "gradient", "stated order"]
    for problem in orders.PROBLEMS:
        columns += [f"{problem.name}: order", "error", "at N"]
    rows = []
    for row in orders.ROWS:
        cells = [row.method, row.label, str(row.order)]
        for problem in orders.PROBLEMS:
            result = results[orders.part_name(problem.name, row)]
            cells += [f"{round(found[problem.name, row].value, 2) + 0.0:.2f}"]
            cells += [f"{result['errors'][-1]:.1e}", str(result["steps"][-1])]
        cells.append("holds" if all(found[problem.name, row].holds for problem in orders.PROBLEMS) else "FAILS")
        rows.append(cells)
    columns.append("")
    title = "Error of gradients against the exact one: largest over all nodes (or all moments), relative"
    return Table(title, columns, rows)


def _training_table(results: Mapping[str, Any], scale: training.Scale) -> Table:
    first, last = scale.steps[0], scale.steps[-1]
    rows = []
    for method, corrections in training.GRADIENTS.items():
        for correction in corrections:
            for run, optimiser in enumerate(training.OPTIMISERS):
                errors, variations, losses = (
                    training.series(results, method, correction, scale.steps, key, run)
                    for key in ("errors", "variations", "losses")
                )
                losses = losses / results[training.REFERENCE]["losses"][run]
                numbers = (errors[0], errors[-1], variations[0], variations[-1], losses[0], losses[-1])
                rows.append([method, label(correction), optimiser, *(f"{number:#.3g}" for number in numbers)])
    measures = ("distance from reference", "variation", "true loss / reference")
    columns = ["method", "gradient", "optimiser", *(f"{what} N={n}" for what in measures for n in (first, last))]
    return Table(f"Training: the learned control after {scale.iterations} steps", columns, rows)


def _comb_table(results: Mapping[str, Any], scale: Sequence[int]) -> Table:
    rows = []
    for method in comb.METHODS:
        result = results[f"comb/{method}"]
        for k, n in enumerate(scale):
            rows.append([method, str(n), *(f"{result[way]['errors'][k]:.1e}" for way in comb.WAYS)])
    title = f"Comb: error of the gradient of {comb.NUM_KNOTS} knots, largest over all, relative"
    return Table(title, ["method", "N", *comb.WAYS.values()], rows)
