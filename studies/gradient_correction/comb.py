"""The comb: the gradient of a control that is given on knots, in a solve whose steps do not land on them.

The control is linear between K knots; the exact gradient of knot j is the integral of g times the knot's hat function.
The chain rule from nodes to knots sums the nodes' gradients under each hat instead, and a hat that covers a few nodes,
or none, gets too much or too little: a comb. A corrected gradient is a function of time, so that its integrals can be
taken between the nodes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

import janode.numpy as jo
from janode.core.corrections import oscillation, trapezoid_weights
from studies.claims import Claim, order_of
from studies.parts import Part, Tick

from .gradients import Library, make_solve, node_times, per_time
from .problems import DURATION, Array, Tanh

NUM_KNOTS = 201
METHODS = ("leapfrog", "midpoint", "ralston")
CORRECTION = "filter"
WAYS = {
    "raw": "raw, chain rule",
    "chain": f"{CORRECTION}, chain rule",
    "function": f"{CORRECTION}, integrated",
}
CURVE_STEPS = 150
"""The gradients are kept, for the figure, at this number of steps."""

KNOTS: list[float] = np.linspace(0.0, DURATION, NUM_KNOTS).tolist()
HATS = np.array(trapezoid_weights(KNOTS))[:, None]
"""The integral of each hat function; gradients of knots are divided by it."""


def spread(times: Sequence[float]) -> Array:
    """The matrix of linear interpolation from the knots to these times."""
    return jo.refine_controls(np.eye(NUM_KNOTS), KNOTS, times, order=2)


def knot_gradients(library: Library, method: str, num_steps: int, correction: str) -> tuple[Array, Array]:
    """(by the chain rule, of the function of time) gradients of the knots over HATS, shape (K, 12)."""
    problem = Tanh()
    times = node_times(method, num_steps).tolist()
    matrix = spread(times)
    knots = problem.controls(np.array(KNOTS))
    solve = make_solve(library, problem, method, num_steps, correction)
    _, gradient = solve(np.tensordot(matrix, knots, axes=1))
    rows = gradient.reshape(len(times), -1)
    function = per_time(method, num_steps, rows)
    return matrix.T @ rows / HATS, integrals(times, function) / HATS


def integrals(times: Sequence[float], function: Array) -> Array:
    """The integrals of a function, linear between these times, times each hat; exact, by Gauss's rule."""
    edges = np.unique([*times, *KNOTS])
    middle, half = (edges[1:] + edges[:-1]) / 2, (edges[1:] - edges[:-1]) / 2
    points = (middle[:, None] + half[:, None] * np.array([-1, 1]) / np.sqrt(3)).reshape(-1)
    values = jo.refine_controls(function, times, points.tolist(), order=2)
    return spread(points.tolist()).T @ (np.repeat(half, 2)[:, None] * values)


@cache
def exact() -> Array:
    """The exact gradient of the knots over HATS: rk4 with steps that land on them converges at order 4."""
    return knot_gradients(Library.NUMPY, "rk4", 4 * (NUM_KNOTS - 1), "none")[0]


def parts(library: Library, scale: Sequence[int]) -> list[Part]:
    """A part for every method: errors and oscillations of three gradients against the number of steps."""

    def part(method: str) -> Part:
        def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            fine = exact()
            result: dict[str, Any] = {way: {"errors": [], "oscillations": []} for way in WAYS}
            for n in scale:
                raw, _none = knot_gradients(library, method, n, "none")
                chain, function = knot_gradients(library, method, n, CORRECTION)
                for way, found in {"raw": raw, "chain": chain, "function": function}.items():
                    result[way]["errors"].append(float(np.max(np.abs(found - fine)) / np.max(np.abs(fine))))
                    result[way]["oscillations"].append(float(oscillation(np, (found,))))
                    if n == CURVE_STEPS:
                        result[way]["curve"] = found[:, 0].tolist()
                tick()
            return {**result, "exact": fine[:, 0].tolist()}

        return Part(f"comb/{method}", len(scale), compute)

    return [part(method) for method in METHODS]


def claims(results: Mapping[str, Any], scale: Sequence[int]) -> list[Claim]:
    """What is claimed of every method."""
    found = []
    for method in METHODS:
        result = results[f"comb/{method}"]
        raw, function = (np.array(result[way]["errors"]) for way in ("raw", "function"))
        few = np.array(scale) <= CURVE_STEPS
        name = f"knots, {method}"
        found += [
            Claim(f"{name}, {WAYS['raw']}: least error for N <= {CURVE_STEPS}", float(np.min(raw[few])), low=0.1),
            Claim(f"{name}, {WAYS['function']}: largest error", float(np.max(function)), high=0.01),
            Claim(f"{name}, {WAYS['function']}: order", order_of(scale, function), low=1.8),
            Claim(f"{name}: least ratio of these errors", float(np.min(raw / function)), low=100.0),
        ]
    return found
