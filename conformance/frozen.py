"""Adaptive solves by the book: the accepted steps taken as given, written out in NumPy for complex steps.

It shares nothing with the solver but the coefficients and the times where its steps end. Where a step starts behind a
stop, and how long it is, are constants, but for the last step before a stop, which ends there.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree

from janode import numpy as jo
from janode.core.interpolants import interpolant
from janode.core.tableaus import TABLEAUS

from .problem import Inputs, Problem
from .textbook import combine, read_knots

Tree = Any
_TINY = 1e-30


@dataclass(frozen=True)
class Steps:
    """The accepted steps of one solve.

    Attributes:
        ends: the times where they start and end.
        stops: the times that steps had to end at.
    """

    ends: Sequence[float]
    stops: Sequence[float]


def accepted_steps(problem: Problem, inputs: Inputs, method: str) -> Steps:
    """The steps of the NumPy reference, without the event, which changes none."""
    options = {**problem.stepping(), **problem.given(inputs.controls), "dense": True}
    options.pop("event", None)
    found = jo.solve(problem.field, inputs.y0, inputs.ts, inputs.params, method=method, **options)
    stops = inputs.ts if options.get("save") == "clip" else (inputs.ts[0], inputs.ts[-1])
    return Steps(found.interpolant.step_ts, sorted({*stops, *problem.knots}))


def integrate_frozen(
    problem: Problem, method: str, steps: Steps, y0: Tree, params: Tree, ts: Any, controls: Tree
) -> dict[str, Tree]:
    """What is read of the solution; every argument may be complex."""
    known = [float(np.real(t)) for t in ts]
    moved = dict(zip(known, ts, strict=True))
    stops = [moved.get(stop, stop) for stop in steps.stops]
    extended, value = interpolant(TABLEAUS[method]).floats, problem.value or problem.field
    spec = optree.tree_structure(y0)
    y: list[Any] = optree.tree_leaves(y0)
    rows, found = {known[0]: y}, {}
    for start, end in zip(steps.ends[:-1], steps.ends[1:], strict=True):
        segment = bisect.bisect_right(steps.stops, start) - 1
        t = stops[segment] + (start - steps.stops[segment])
        h = stops[segment + 1] - t if end == steps.stops[segment + 1] else end - start
        middle = (start + end) / 2
        slopes: list[Any] = []
        for c, row in zip(extended.c, extended.a, strict=True):
            arguments = [] if params is None else [params]
            if controls is not None:
                arguments.append(read_knots(problem, controls, t + c * h, middle))
            stage = combine((1.0, y), *((h * a, k) for a, k in zip(row, slopes, strict=True)))
            slopes.append(optree.tree_leaves(value(t + c * h, spec.unflatten(stage), *arguments)))

        def at(time: Any, y: Any = y, t: Any = t, h: Any = h, slopes: Any = slopes) -> Any:
            x = (time - t) / h
            weights = [sum(w * x ** (power + 1) for power, w in enumerate(row)) for row in extended.weights]
            return combine((1.0, y), *((h * b, k) for b, k in zip(weights, slopes, strict=True)))

        rows |= {time: at(moved[time]) for time in known if start < time < end}
        if problem.place is not None and start <= problem.place < end:
            found["between"] = spec.unflatten(at(problem.place))
        if problem.event is not None and "event_t" not in found:
            found |= _event(problem, at, spec, params, start, end)
        weights = TABLEAUS[method].floats.b
        y = combine((1.0, y), *((h * b, k) for b, k in zip(weights, slopes, strict=False)))
        if end in moved:
            rows[end] = y
    ys = [rows[time] for time in known[: len(known) - (problem.event is not None)]]
    return {"ys": spec.unflatten([np.stack(leaf) for leaf in zip(*ys, strict=True)]), **found}


def _event(
    problem: Problem, at: Callable[[Any], Any], spec: Any, params: Tree, start: float, end: float
) -> dict[str, Tree]:
    """The event, if it is in this step: bisected, then one step of Newton, which carries derivatives."""
    assert problem.event is not None
    fn = problem.event.fn

    def value(time: Any) -> Any:
        return fn(time, spec.unflatten(at(time)), params)

    signs = [np.real(value(time)) > 0 for time in (start, end)]
    if signs != [True, False]:
        return {}
    low, high = start, end
    for _ in range(60):
        time = (low + high) / 2
        low, high = (time, high) if np.real(value(time)) > 0 else (low, time)
    rate = _rate(value, time)
    time = time - value(time) / rate
    return {"event_t": time, "event_y": spec.unflatten(at(time))}


def _rate(value: Callable[[Any], Any], time: float) -> Any:
    """The derivative of a function of time, by a complex step beside those that are under way already."""
    return np.imag(value(time + 1j * _TINY) - value(time)) / _TINY
