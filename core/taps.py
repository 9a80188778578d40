"""What is read from inside accepted steps, by their continuous extension: the states at ts between steps, all of it.

A tap reads an accepted step on the way forward, and on the way back gives the step the cotangents of what it read. It
sees nothing of the step but its continuous extension, so a tap needs no driver of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .controllers import larger, smaller
from .grids import AcceptedStep
from .protocols import Array, State, Time
from .solution import Report


class Reading(NamedTuple):
    """An accepted step as a tap sees it."""

    n: Any
    step: AcceptedStep
    t: Time
    h: Time
    end: Time
    """The time up to which the solve goes in it, without gradient: its end, or an event before."""
    stops: Any
    """Whether the solve ends there."""
    y: State
    slopes: tuple[State, ...]
    y_next: State


class Inside(NamedTuple):
    """The cotangents that taps give to a step: of its slopes, of the state and the time at its start, of its size."""

    slopes: tuple[State, ...]
    y: State
    t: Array | None
    h: Array | None


class Tap(Protocol):
    """Something read from inside steps."""

    def begin(self, sweep: Any, y0: State, f0: State) -> Any:
        """The state of the tap before the first step."""

    def wants(self, sweep: Any, state: Any, end: Time) -> Any:
        """Whether it reads a step that ends at the time ``end``."""

    def read(self, sweep: Any, state: Any, rows: Any, reading: Reading, where: Any) -> tuple[Any, Any, Reading]:
        """(state, buffer of the states at all ts, the step as the next tap sees it) after a step, where taken."""

    def reported(self, report: Report, state: Any) -> Report:
        """The report with what the tap found."""

    def give_begin(self, state: Any) -> Any:
        """Where the way back begins."""

    def give(self, sweep: Any, state: Any, place: Any, bars: Any, n: Any, step: AcceptedStep, inside: Inside) -> Any:
        """(place, cotangents of ts, what the step gets) on the way back through step n."""


class _Saved(NamedTuple):
    num: Any
    """How many of ts lie behind."""
    slopes: Any
    """Buffer: dy/dt at the ts between steps, or None where no time gradient is wanted."""
    found_in: Any
    """Buffer: in which step each of the ts between steps lies."""


class _Giving(NamedTuple):
    row: Any
    ts: Any
    inside: Inside


def drawn(ops: Any, pair: Any, inside: Inside, x: Any, h: Time, y_bar: State, rate: Array | None) -> Inside:
    """The cotangents of a step, with those of its extension at t_n + x h added; ``rate`` is <y_bar, dy/dt> there."""
    weights, places = pair.weights(x)
    slopes = list(inside.slopes)
    for weight, i in zip(weights, places, strict=True):
        slopes[i] = ops.linear_combination(slopes[i], h, (weight,), (y_bar,))
    y = ops.linear_combination(inside.y, 1.0, (1.0,), (y_bar,))
    t, step_size = inside.t, inside.h
    if rate is not None:
        (t,) = ops.linear_combination((t,), -1.0, (1.0,), ((rate,),))
        (step_size,) = ops.linear_combination((step_size,), -x, (1.0,), ((rate,),))
    return Inside(tuple(slopes), y, t, step_size)


@dataclass(frozen=True)
class Between:
    """The states at the ts that no step has to end at."""

    def begin(self, sweep: Any, y0: State, f0: State) -> _Saved:
        """None saved but the first."""
        ops = sweep.backend
        slopes = ops.buffer(sweep.num_times, f0) if sweep.field.needs_time else None
        return _Saved(1, slopes, ops.buffer(sweep.num_times, (-1,)))

    def wants(self, sweep: Any, state: _Saved, end: Time) -> Any:
        """Whether the next of ts lies between steps and not after the time ``end``."""
        row = smaller(sweep.backend, state.num, sweep.num_times - 2)
        return (state.num < sweep.num_times - 1) & (sweep.direction * (sweep.known_ts[row] - end) <= 0.0)

    def read(self, sweep: Any, state: _Saved, rows: Any, reading: Reading, where: Any) -> tuple[Any, Any, Reading]:
        """The states at the ts that lie in this step."""
        ops, pair = sweep.backend, sweep.pair

        def is_left(loop: tuple[_Saved, Any]) -> Any:
            return where & self.wants(sweep, loop[0], reading.end)

        def save(loop: tuple[_Saved, Any]) -> tuple[_Saved, Any]:
            (row, slopes, found_in), rows = loop
            is_here = is_left(loop)
            x = (sweep.ts[row] - reading.t) / reading.h
            if slopes is not None:
                slopes = ops.put(slopes, row, pair.slope(ops, reading.slopes, x), where=is_here)
            found_in = ops.put(found_in, row, (reading.n,), where=is_here)
            rows = ops.put(rows, row, pair.value(ops, reading.y, reading.slopes, reading.h, x), where=is_here)
            return _Saved(ops.choose(is_here, lambda: row + 1, lambda: row), slopes, found_in), rows

        state, rows = ops.while_loop(is_left, save, (state, rows))
        return state, rows, reading

    def reported(self, report: Report, state: _Saved) -> Report:
        """The states stand in its rows."""
        return report

    def give_begin(self, state: _Saved) -> Any:
        """The last of ts that was saved between steps."""
        return state.num - 1

    def give(
        self, sweep: Any, state: _Saved, place: Any, bars: Any, n: Any, step: AcceptedStep, inside: Inside
    ) -> tuple[Any, Any, Inside]:
        """The cotangents of the states at the ts inside the step."""
        ops, pair = sweep.backend, sweep.pair
        t, h = sweep.grid.place(ops, step)

        def is_left(giving: _Giving) -> Any:
            (found,) = ops.take(state.found_in, larger(ops, giving.row, 0))
            return (giving.row >= 1) & (found == n)

        def pull(giving: _Giving) -> _Giving:
            is_here, row = is_left(giving), larger(ops, giving.row, 0)
            y_bar = ops.take(bars.ys, row)
            x = (sweep.ts[row] - t) / h
            rate, ts = None, giving.ts
            if ts is not None:
                rate = ops.pair(y_bar, ops.take(state.slopes, row))
                ts = ops.put(ts, row, _plus(ops, ops.take(ts, row), rate), where=is_here)
            more = drawn(ops, pair, giving.inside, x, h, y_bar, rate)
            row, chosen = ops.choose(is_here, lambda: (giving.row - 1, more), lambda: (giving.row, giving.inside))
            return _Giving(row, ts, chosen)

        giving = ops.while_loop(is_left, pull, _Giving(place, bars.ts, inside))
        return giving.row, giving.ts, giving.inside


def _plus(ops: Any, total: State, addend: Array) -> State:
    return ops.linear_combination(total, 1.0, (1.0,), ((addend,),))


class Dense(NamedTuple):
    """The extension of every accepted step: its start, its size, the state there and the extended slopes."""

    t: Any
    h: Any
    y: State
    slopes: tuple[State, ...]


@dataclass(frozen=True)
class KeepDense:
    """All of the solution: the continuous extension of every step."""

    def begin(self, sweep: Any, y0: State, f0: State) -> Any:
        """Room for every step."""
        zero = 0.0 * sweep.grid.times[0]
        example = Dense(zero + sweep.direction * float("inf"), zero, y0, (f0,) * len(sweep.pair.c))
        return sweep.backend.recorder(sweep.max_steps, example)

    def wants(self, sweep: Any, state: Any, end: Time) -> Any:
        """Every step."""
        return True

    def read(self, sweep: Any, state: Any, rows: Any, reading: Reading, where: Any) -> tuple[Any, Any, Reading]:
        """One more row."""
        row = Dense(reading.t, reading.h, reading.y, tuple(reading.slopes))
        return sweep.backend.put(state, reading.n, row, where=where), rows, reading

    def reported(self, report: Report, state: Any) -> Report:
        """With the rows."""
        return report._replace(dense=state)

    def give_begin(self, state: Any) -> Any:
        """Nothing to remember."""
        return ()

    def give(
        self, sweep: Any, state: Any, place: Any, bars: Any, n: Any, step: AcceptedStep, inside: Inside
    ) -> tuple[Any, Any, Inside]:
        """The cotangents of the row."""
        ops = sweep.backend
        if bars.dense is None:
            return place, bars.ts, inside
        row: Dense = ops.take(bars.dense, n)

        def added(total: State, addend: State) -> State:
            return ops.linear_combination(total, 1.0, (1.0,), (addend,))

        slopes = tuple(added(total, addend) for total, addend in zip(inside.slopes, row.slopes, strict=True))
        t, h = inside.t, inside.h
        if t is not None:
            (t,), (h,) = added((t,), (row.t,)), added((h,), (row.h,))
        return place, bars.ts, Inside(slopes, added(inside.y, row.y), t, h)


def no_cotangents(sweep: Any, bars: Any) -> Inside:
    """Zeros."""
    ops = sweep.backend
    zero = ops.zeros(ops.take(bars.ys, 0))
    time = None if bars.ts is None else ops.zeros(ops.take(bars.ts, 0))[0]
    return Inside((zero,) * len(sweep.pair.c), zero, time, time)


def taps_of(saves_between: bool, others: Sequence[Tap]) -> tuple[Tap, ...]:
    """The taps of a solve, those that end it first."""
    return (*others, *((Between(),) if saves_between else ()))
