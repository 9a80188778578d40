"""Training of z' = tanh(W(t) z + b(t)) with raw and with corrected gradients, by gradient descent and by Adam.

Each node of the control moves by its own gradient per time, g(t_k): what the continuous problem does at t_k. With a
good gradient the learned controls of all step sizes are samples of one function. Its reference is trained with the
fourth-order gradient of rk4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import janode.numpy as jo
from studies.claims import Claim, order_of
from studies.parts import Part, Tick

from .gradients import Library, label, make_solve, node_times, node_weights
from .problems import DURATION, Array, Ellipse

OPTIMISERS = ("gradient descent", "adam")
GRADIENTS = {
    "leapfrog": ("none", "filter", "consistent"),
    "midpoint": ("none", "filter"),
    "ralston": ("none", "filter"),
}
RATE = 0.2
ADAM_RATE = 0.01
# Adam divides a gradient by its own size: near the zeros of g only this keeps it a smooth function of time.
ADAM_EPS = 0.01
FIRST = 40
"""Corrected gradients are held to their claims from this number of steps on."""
REFERENCE = "training/reference"


@dataclass(frozen=True)
class Scale:
    """How much is trained."""

    steps: tuple[int, ...]
    iterations: int
    reference_steps: int
    curve_steps: int
    """The learned control is kept, for the figure, at this number of steps."""


def train(library: Library, method: str, num_steps: int, correction: str, iterations: int, tick: Tick) -> Array:
    """The learned control at the nodes, shape (M, 2, 2, 3): of gradient descent, of Adam."""
    problem = Ellipse(len(OPTIMISERS))
    solve = make_solve(library, problem, method, num_steps, correction)
    weights = node_weights(method, num_steps)[:, None, None, None]
    u = problem.first_controls(node_times(method, num_steps))
    mean, square = np.zeros_like(u[:, 1]), np.zeros_like(u[:, 1])
    for i in range(1, iterations + 1):
        _, gradient = solve(u)
        g = gradient / weights
        mean = 0.9 * mean + 0.1 * g[:, 1]
        square = 0.999 * square + 0.001 * g[:, 1] ** 2
        adam = (mean / (1 - 0.9**i)) / (np.sqrt(square / (1 - 0.999**i)) + ADAM_EPS)
        u = u - np.stack([RATE * g[:, 0], ADAM_RATE * adam], axis=1)
        tick()
    return u


def true_losses(times: Sequence[float], u: Array) -> Array:
    """The loss of each run under the ODE itself, with the control linear between nodes, to five digits or more."""
    problem = Ellipse(u.shape[1])
    ts = [*times] if times[-1] == DURATION else [*times, DURATION]
    between = jo.refine_controls(u, times, jo.control_times("rk4", ts, steps=2), order=2)
    solution = jo.solve(
        lambda t, z, u: problem.field(np, z, u), problem.start, ts, controls=between, method="rk4", steps=2
    )
    return problem.losses(solution.ys[-1])


def variations(u: Array) -> Array:
    """The total variation of each run's control: the sum of all jumps of all entries."""
    return np.sum(np.abs(np.diff(u, axis=0)), axis=(0, 2, 3))


def parts(library: Library, scale: Scale) -> list[Part]:
    """The reference, then a part for every method, gradient and number of steps."""

    def reference(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
        times = node_times("rk4", scale.reference_steps).tolist()
        u = train(library, "rk4", scale.reference_steps, "consistent", scale.iterations, tick)
        return {**_measures(times, u), "times": times, "controls": u.tolist()}

    def part(method: str, correction: str, num_steps: int) -> Part:
        def compute(done: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            u = train(library, method, num_steps, correction, scale.iterations, tick)
            times, fine = node_times(method, num_steps).tolist(), done[REFERENCE]
            exact = jo.refine_controls(np.array(fine["controls"]), fine["times"], times, order=6)
            errors = np.max(np.abs(u - exact), axis=(0, 2, 3)).tolist()
            curve = {"times": times, "values": u[:, :, 0, 1].T.tolist()} if num_steps == scale.curve_steps else None
            return {**_measures(times, u), "errors": errors, "curve": curve}

        return Part(part_name(method, correction, num_steps), scale.iterations, compute)

    return [Part(REFERENCE, scale.iterations, reference)] + [
        part(method, correction, n)
        for method, corrections in GRADIENTS.items()
        for correction in corrections
        for n in scale.steps
    ]


def part_name(method: str, correction: str, num_steps: int) -> str:
    """The name of a training's part."""
    return f"training/{method}/{correction}/{num_steps}"


def _measures(times: Sequence[float], u: Array) -> dict[str, list[float]]:
    return {"variations": variations(u).tolist(), "losses": true_losses(times, u).tolist()}


def series(results: Mapping[str, Any], method: str, correction: str, steps: Sequence[int], key: str, run: int) -> Array:
    """One measure of one optimiser's run against the number of steps."""
    return np.array([results[part_name(method, correction, n)][key][run] for n in steps])


def claims(results: Mapping[str, Any], scale: Scale) -> list[Claim]:
    """What is claimed of every method and gradient."""
    found = []
    for method, corrections in GRADIENTS.items():
        for correction in corrections:
            for run, optimiser in enumerate(OPTIMISERS):
                name = f"training, {method}, {label(correction)}, {optimiser}"
                errors, variations, losses = (
                    series(results, method, correction, scale.steps, key, run)
                    for key in ("errors", "variations", "losses")
                )
                fine = results[REFERENCE]
                if correction == "none":
                    jumps = variations[-1] / fine["variations"][run]
                    found += _raw_claims(name, optimiser, variations, jumps, losses[-1] / fine["losses"][run])
                else:
                    late = np.array(scale.steps) >= FIRST
                    excess = abs(losses[-1] / fine["losses"][run] - 1)
                    order = order_of(np.array(scale.steps)[late], errors[late])
                    found += _corrected_claims(name, optimiser, order, variations[late], excess)
    return found


def _raw_claims(name: str, optimiser: str, variations: Array, jumps: float, loss: float) -> list[Claim]:
    """Adam's steps do not grow with the gradient, nor then the jumps they make: only their sum is claimed to be large.

    The learned control of Ralston's method, whose raw gradient has the right sign everywhere, ends near the right one.
    """
    if optimiser == "adam":
        return [Claim(f"{name}: total variation, of the reference's", jumps, low=5.0)]
    growth = float(np.min(variations[1:] / variations[:-1]))
    return [
        Claim(f"{name}: least growth of the total variation as N doubles", growth, low=2.0),
        Claim(f"{name}: true loss at the largest N, of the reference's", loss, low=2.0),
    ]


def _corrected_claims(name: str, optimiser: str, order: float, variations: Array, excess: float) -> list[Claim]:
    """Adam's division makes kinks where g passes zero, and the order of the largest error is that at the kinks."""
    change = float(np.ptp(variations) / variations[0])
    return [
        Claim(f"{name}: order of the learned control", order, low=1.0 if optimiser == "adam" else 1.8),
        Claim(f"{name}: change of the total variation from N = {FIRST} on", change, high=0.1),
        Claim(f"{name}: relative distance of the true loss from the reference's", excess, high=0.02),
    ]
