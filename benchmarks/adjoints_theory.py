"""What the gradients of the suite `adjoints` are made of, and how often by theory each evaluates and pulls back."""

from __future__ import annotations

from math import comb
from typing import Any, NamedTuple

from janode.core.tableaus import TABLEAUS

PRESETS = ("backprop", "stages", "aca", "symplectic", "restart", "revolve", "reversible", "reconstruct", "backsolve")
EXACT = PRESETS[:7]
CHECKPOINTS = 20
PUBLISHED = {
    "adjoint method (published)": 3,
    "naive backpropagation (published)": 2,
    "one checkpoint (published)": 3,
    "ACA (published)": 3,
    "symplectic adjoint (published)": 4,
}
"""Passes through the network per stage and step, in units of N s, forwards and backwards alike: Matsubara, Miyatake and
Yaguchi 2021, arXiv 2102.09750, table 1. That of the adjoint method is for as many steps backwards as forwards."""


class Counts(NamedTuple):
    """How often a gradient evaluates the field, with or without a VJP, and how often it pulls back."""

    evaluations: int
    vjps: int


def options(preset: str, method: str, steps: int) -> dict[str, Any]:
    """The arguments of a solve on [0, 1]; what is reversible is the coupling of the method, of twice as many stages."""
    name = f"reversible({method})" if preset == "reversible" else method
    return {"method": name, "steps": steps, "adjoint": preset}


def counts(preset: str, method: str, steps: int) -> Counts:
    """By theory. A last stage that the solution does not use is never evaluated."""
    s, n = TABLEAUS[method].num_solution_stages, steps
    if preset == "reversible":  # s more to step back
        s *= 2
        return Counts(n * (4 * s - 1), n * s)
    evaluations = {
        "backprop": n * s,
        "stages": 2 * n * s,
        "aca": 2 * n * s,
        "backsolve": 2 * n * s,
        "symplectic": n * (3 * s - 1),
        "restart": n * (4 * s - 1),
        "reconstruct": n * (4 * s - 1),
        "revolve": n * (3 * s - 1) + s * steps_again(n, CHECKPOINTS),
    }
    return Counts(evaluations[preset], n * s)


def steps_again(steps: int, checkpoints: int) -> int:
    """How many steps the best schedule takes again: r N - C(c + r, r - 1) before their pullbacks, N - 1 at first.

    r is the least number with C(c + r, r) >= N. Source: Griewank, Walther 2000, doi 10.1145/347837.347846, equation 3.
    """
    r = 1
    while comb(checkpoints + r, r) < steps:
        r += 1
    return r * steps - comb(checkpoints + r, r - 1) - (steps - 1)
