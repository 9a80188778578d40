"""The suite `adjoints` in NumPy: every preset on a network with hand-written VJPs; and the gradient all are held to."""

from __future__ import annotations

import functools
import tracemalloc
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import optree

from janode.numpy import solve_vjp

from .adjoints_theory import PRESETS, options
from .fields import TINY
from .measure import Case, Race, Thunk, flat, race
from .numpy_problem import NumpyProblem


def races(device: str, scale: Any, absent: Sequence[str]) -> Iterator[Race]:
    """Every race of this library."""
    for problem, method, steps, presets in scale.timed["numpy"]:
        bench = NumpyProblem(problem)
        thunks = {f"janode {preset}": _gradient(bench, preset, method, steps) for preset in presets}
        case = Case("numpy", problem.name, steps, method, "gradient")
        yield race(case, thunks, scale.effort_of(problem, steps))
        peaks = {name: {"bytes": [float(_peak_bytes(thunk))]} for name, thunk in thunks.items()}
        yield Race(case._replace(task="memory"), peaks)
    for method, steps in scale.errors:
        found = {}
        for preset in PRESETS:
            given = options(preset, method, steps)
            error = distance(_gradient(_double(), preset, method, steps)(), reference(given["method"], steps))
            found[f"janode {preset}"] = {"error": [error]}
        yield Race(Case("numpy", TINY.name, steps, f"{method}, float64", "error"), found)


def _gradient(bench: NumpyProblem, preset: str, method: str, steps: int) -> Thunk:
    given = bench.field, bench.y0, [0.0, 1.0], bench.params
    return bench.gradient(partial(solve_vjp, *given, **options(preset, method, steps)))


def _peak_bytes(thunk: Thunk) -> int:
    """The most bytes allocated at once while it runs, Python's own objects included."""
    tracemalloc.start()
    try:
        thunk()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _double() -> NumpyProblem:
    """The smallest problem in double precision."""
    bench = NumpyProblem(TINY)
    bench.params, bench.y0 = optree.tree_map(lambda leaf: leaf.astype(float), (bench.params, bench.y0))
    return bench


@functools.cache
def reference(method: str, steps: int) -> np.ndarray:
    """Backpropagation in float64 through the smallest problem: that which every error is taken from."""
    bench = _double()
    given = bench.field, bench.y0, [0.0, 1.0], bench.params
    return flat(bench.gradient(partial(solve_vjp, *given, method=method, steps=steps, adjoint="backprop"))())


def distance(found: Sequence[Any], expected: np.ndarray) -> float:
    """||found - expected|| / ||expected||."""
    return float(np.linalg.norm(flat(found) - expected) / np.linalg.norm(expected))
