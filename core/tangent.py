"""The tangent of a solve, forwards: the sweep of the same method over the state together with its tangent.

At a given step size a step is linear in the carry and in the field values that it asks for, and the step size enters it
only as their factor. So the derivative of every method, along the direction (y0_dot, theta_dot, ts_dot), is the method
itself on the tangents, with the field values

    k_dot = J_y Y_dot + f_theta theta_dot + f_t t_dot + (h_dot / h) k

at its stages, the last term being the derivative of the factor. Nothing is kept of a step once it is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

from .adaptive import AdaptiveSweep
from .adaptive_back import Accepted
from .controls import Controls
from .grids import AcceptedStep
from .protocols import Array, Backend, Carry, Moment, Phase, State
from .records import Evaluated, Nothing
from .sweep import Sweep


class PushedField(Protocol):
    """A field that pushes tangents forwards."""

    def push(
        self, t: Array, y: State, theta: State, t_dot: Array, y_dot: State, theta_dot: State
    ) -> tuple[State, State]:
        """(f, f_dot): the value at a point, and its derivative along the tangents."""


@dataclass(frozen=True)
class Direction:
    """The tangents of the arguments of a solve, as leaves."""

    y0: State
    theta: State
    ts: Sequence[float]
    controls: State


@dataclass(frozen=True)
class Tangent:
    """A way forward that takes the tangent along, in the place of a recovery.

    Cost: fixed steps, s field evaluations and s JVPs for each; adaptive ones find their way first, and the accepted
    steps are then taken once more with their tangents. Memory: one state and one tangent per time of ts.
    """

    direction: Direction

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, list[State]]:
        """(outputs of the sweep, tangents of the states at all ts)."""
        dots = _dots(sweep, self.direction)
        pair = y0 + self.direction.y0
        if isinstance(sweep, AdaptiveSweep):
            outputs, way, _ = sweep.advance(y0, Nothing())
            return outputs, _along(sweep, dots, way, pair)
        rows, _, _ = _pairs(sweep, dots).advance(pair, Nothing())
        size = len(y0)
        return [row[:size] for row in rows], [row[size:] for row in rows]


class _PairField:
    """The field of the state and its tangent; a time is (t, t_dot, h_dot / h), a theta is (theta, theta_dot)."""

    needs_time = False

    def __init__(self, field: PushedField, ops: Backend) -> None:
        self.field, self.ops = field, ops

    def __call__(self, time: Any, pair: State, theta: Any) -> State:
        """(k, k_dot)."""
        t, t_dot, stretch = time
        size = len(pair) // 2
        f, f_dot = self.field.push(t, pair[:size], theta[0], t_dot, pair[size:], theta[1])
        if stretch:
            f_dot = self.ops.linear_combination(f_dot, stretch, (1.0,), (f,))
        return f + f_dot


@dataclass(frozen=True, kw_only=True)
class _Pairs(Sweep):
    """A sweep of fixed steps over the state and its tangent."""

    dots: Sweep
    """The sweep whose moments are the tangents of this one's."""

    def moment(self, phase: Phase, step: Any, state: State, c: Sequence[float] | None = None) -> Moment:
        """The moment with its tangent."""
        return _joined(super().moment(phase, step, state, c), self.dots.moment(phase, step, state, c))


def _pairs(sweep: Sweep, dots: Sweep) -> _Pairs:
    """The sweep over pairs; of an adaptive one only what a single step needs."""
    parts = {part.name: getattr(sweep, part.name) for part in fields(Sweep)}
    return _Pairs(**{**parts, "field": _PairField(sweep.field, sweep.backend)}, dots=dots)  # type: ignore[arg-type]


def _dots(sweep: Sweep, direction: Direction) -> Sweep:
    """The sweep with tangents in the place of times, theta and controls, on all of which a moment depends linearly."""
    controls = sweep.controls
    if controls is not None:
        controls = Controls(controls.layout, sweep.backend.unstack(direction.controls))
    dots = replace(sweep, ts=direction.ts, theta=direction.theta, controls=controls)
    if not isinstance(sweep, AdaptiveSweep):
        return dots
    stops = [direction.ts[row] if row >= 0 else 0.0 for row in sweep.grid.rows]
    return replace(dots, grid=replace(sweep.grid, times=stops, has_jumps=False))  # type: ignore[arg-type]


def _joined(moment: Moment, dot: Moment) -> Moment:
    stretch = dot.h / moment.h
    times = tuple([(t, t_dot, stretch) for t, t_dot in zip(moment.times, dot.times, strict=True)])
    return moment._replace(times=times, thetas=tuple(zip(moment.thetas, dot.thetas, strict=True)))


class _Slopes(Evaluated):
    """Keeps the field values of a step."""

    def evaluate(self, sweep: Any, t: Array, y: State, theta: State) -> tuple[State, Any]:
        """(the field's value, the same)."""
        f = sweep.field(t, y, theta)
        return f, f

    def keep(self, carry: Carry, evaluations: Sequence[State]) -> Any:
        """The field values."""
        return tuple(evaluations)


def _along(sweep: AdaptiveSweep, dots: AdaptiveSweep | Sweep, way: Accepted, pair: State) -> list[State]:
    """The tangents at all ts, from the accepted steps once more; NaN at ts that the solve has not come to."""
    ops, size, pairs = sweep.backend, len(pair) // 2, _pairs(sweep, dots)
    carry = sweep.method.start(pair)
    missing = tuple(math.nan + leaf for leaf in ops.zeros(pair[size:]))
    rows = [pair[size:], *[missing] * (sweep.num_times - 1)]
    found_in = [
        place
        for tap, state in zip(sweep.taps, way.taps, strict=True)
        if hasattr(state, "found_in")
        for (place,) in state.found_in
    ]
    for n in range(way.num_steps):
        step = AcceptedStep(*ops.take(way.steps, n))
        frozen = step._replace(offset=0.0, h=0.0)
        phase = Phase(sweep.stepper(bool(step.is_read)), 0)
        moment = _joined(sweep.moment(phase, step, pair), dots.moment(phase, frozen, pair))
        following, slopes = _Slopes().advance(pairs, carry, moment)
        if step.row >= 0:
            rows[step.row] = sweep.method.output(following)[size:]
        for row in [row for row, place in enumerate(found_in) if place == n]:
            t, h = sweep.grid.place(ops, step)
            t_dot, h_dot = dots.grid.place(ops, frozen)  # type: ignore[call-arg]
            x = (sweep.known_ts[row] - t) / h
            value = sweep.pair.value(ops, sweep.method.output(carry), slopes, h, x)
            rate = sweep.pair.slope(ops, [slope[:size] for slope in slopes], x)
            moved = dots.ts[row] - t_dot - x * h_dot
            rows[row] = ops.linear_combination(value[size:], moved, (1.0,), (rate,))
        carry = following
    return rows
