"""The same gradients on the other array libraries: how far they are from NumPy's."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np

from studies.claims import Claim
from studies.parts import Part, Tick

from . import orders
from .gradients import Library, make_solve, node_times
from .problems import Tanh

NUM_STEPS = 40
LIMIT = 1e-11


def others() -> list[Library]:
    """The libraries beside NumPy that are installed."""
    return [library for library in Library if library is not Library.NUMPY and find_spec(library) is not None]


def difference(library: Library, row: orders.Row) -> float:
    """The largest difference from NumPy's gradient of the nodes, relative to its largest entry."""
    problem = Tanh()
    controls = problem.controls(node_times(row.method, NUM_STEPS))
    found, expected = (
        make_solve(one, problem, row.method, NUM_STEPS, row.correction)(controls)[1] for one in (library, Library.NUMPY)
    )
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def parts() -> list[Part]:
    """A part for every other library: the largest difference of all rows, and whose it is."""
    kept = [row for row in orders.ROWS if row.gradient != orders.MOMENTS]

    def part(library: Library) -> Part:
        def compute(_: Mapping[str, Any], tick: Tick) -> dict[str, Any]:
            found = {}
            for row in kept:
                found[f"{row.method}, {row.label}"] = difference(library, row)
                tick()
            worst = max(found, key=found.__getitem__)
            return {"difference": found[worst], "gradient": worst}

        return Part(f"agreement/{library}", len(kept), compute)

    return [part(library) for library in others()]


def claims(results: Mapping[str, Any]) -> list[Claim]:
    """That all libraries agree."""
    return [
        Claim(f"{name}: largest relative distance from NumPy ({one['gradient']})", one["difference"], high=LIMIT)
        for name, one in results.items()
        if name.startswith("agreement/")
    ]
