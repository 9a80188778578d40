"""Events: functions of the solution whose change of sign ends a solve, found on the continuous extension of a step.

A step is looked at in a few places, its end among them; between two of them an event that has changed its sign has
happened, and the place where it has is found there by a bracketed search. An event that crosses zero twice between two
places is not seen. Only a crossing counts: an event that is zero at the start has not happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from .controllers import smaller
from .errors import InputError
from .grids import AcceptedStep
from .protocols import Array, State, Time
from .solution import Report
from .taps import Inside, Reading, drawn


@dataclass(frozen=True)
class Event:
    """A function of the solution whose change of sign ends a solve.

    Args:
        fn: ``fn(t, y)``, followed by params where they are given; returns a real number, an array of one entry or none.
        direction: 1 for the change from negative to positive, -1 for that from positive to negative, 0 for both.
        vjp: takes what ``fn`` takes plus the cotangent of its value, and returns the cotangents of ``fn``'s arguments
            in their order, None for zero; for libraries that do not differentiate.
        samples: in how many places each step is looked at; a pair of crossings between two of them is not seen.

    Raises:
        InputError: an argument is outside its range.

    Example:
        >>> falls = Event(lambda t, y: y[0], direction=-1)
    """

    fn: Callable[..., Any]
    direction: int = 0
    vjp: Callable[..., Any] | None = None
    samples: int = 4

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise InputError(f"Event: fn must be callable; got {type(self.fn).__name__}. Give a function of (t, y).")
        if self.direction not in (-1, 0, 1):
            raise InputError(
                f"Event: direction must be -1, 0 or 1; got {self.direction!r}. 1 is from negative to positive."
            )
        if self.samples < 1:
            raise InputError(f"Event: samples must be at least 1; got {self.samples!r}. The default is 4.")


def read_events(where: str, event: Any) -> tuple[Event, ...]:
    """The events of an argument that may be None, a function, an event or a sequence of them."""
    if event is None:
        return ()
    entries = event if isinstance(event, list | tuple) else [event]
    if not entries:
        raise InputError(f"{where}: event must hold at least one event; got none. Leave it out.")
    return tuple(entry if isinstance(entry, Event) else Event(entry) for entry in entries)


_WIDTH = 2.0**-51
_ROUNDS = 120


class Happened(NamedTuple):
    """The event that ended a solve."""

    index: Any
    """Which of the events it was, or -1."""
    time: Time
    y: State
    slope: State
    """dy/dt there."""


class _Watched(NamedTuple):
    values: tuple[Any, ...]
    """The events at the start of the next step."""
    happened: Happened
    n: Any
    """The step in which it happened, or -1."""
    x: Any
    """Where in the step."""


@dataclass(frozen=True)
class Watch:
    """Ends the solve at the first event.

    ``values(t, y, theta)`` are the events, 0-d real arrays; ``directions`` for each 1 for rising ones, -1 for falling
    ones, 0 for both; each step is looked at in ``samples`` places.
    """

    values: Callable[[Array, State, State], tuple[Array, ...]]
    directions: tuple[int, ...]
    samples: int = 4

    def begin(self, sweep: Any, y0: State, f0: State) -> _Watched:
        """The events at the start."""
        nowhere = math.nan * sweep.known_ts[0]
        missing = tuple(math.nan + leaf for leaf in sweep.backend.zeros(y0))
        nothing = Happened(-1, nowhere, missing, missing)
        return _Watched(self._at(sweep, sweep.known_ts[0], y0), nothing, -1, 0.0)

    def wants(self, sweep: Any, state: _Watched, end: Time) -> Any:
        """Every step."""
        return True

    def read(self, sweep: Any, state: _Watched, rows: Any, reading: Reading, where: Any) -> tuple[Any, Any, Reading]:
        """Whether an event happened in this step, and if so where."""
        ops, pair = sweep.backend, sweep.pair
        t, h = sweep.grid.known[reading.step.segment] + reading.step.offset, reading.step.h
        low, before, values = 0.0, state.values, state.values
        found: Any = False
        bracket: Any = (0.0, 1.0, state.values, (False,) * len(self.directions))
        for j in range(1, self.samples + 1):
            x = j / self.samples
            y = reading.y_next if j == self.samples else pair.value(ops, reading.y, reading.slopes, reading.h, x)
            values = self._at(sweep, t + x * h, y)
            flags = tuple(map(crosses, before, values, self.directions))
            crossed = _any(flags)
            here = crossed & (found ^ True)
            found_now = (low, x, before, flags)
            bracket = ops.choose(here, lambda new=found_now: new, lambda old=bracket: old)
            found, low, before = found | crossed, x, values
        found = where & found
        if ops.may(found):
            new = self._located(sweep, reading, t, h, bracket)
            happened = ops.choose(found, lambda: new, lambda: (state.happened, state.n, state.x))
            state = _Watched(state.values, *happened)
            end = ops.choose(found, lambda: new[0].time, lambda: reading.end)
            reading = reading._replace(end=end, stops=found)
        return state._replace(values=ops.choose(where, lambda: values, lambda: state.values)), rows, reading

    def _located(self, sweep: Any, reading: Reading, t: Time, h: Time, bracket: Any) -> tuple[Happened, Any, Any]:
        ops, pair = sweep.backend, sweep.pair
        low, high, before, flags = bracket
        best, index = math.inf, -1
        for e, flag in enumerate(flags):
            if not ops.may(flag):
                continue

            def value(x: Any, e: int = e) -> Any:
                y = pair.value(ops, reading.y, reading.slopes, reading.h, x)
                return self._at(sweep, t + x * h, y)[e]

            root = find_root(ops, value, low, high, before[e])
            is_first = flag & (root < best)
            pick = (root, e)
            best, index = ops.choose(is_first, lambda new=pick: new, lambda old=(best, index): old)
        time = t + smaller(ops, best, 1.0) * h
        x = (time - reading.t) / reading.h  # the place of a time that is held fixed, where the step's ends are not
        y = pair.value(ops, reading.y, reading.slopes, reading.h, x)
        return Happened(index, time, y, pair.slope(ops, reading.slopes, x)), reading.n, x

    def _at(self, sweep: Any, t: Time, y: State) -> tuple[Any, ...]:
        ops = sweep.backend
        return tuple(map(ops.scalar, self.values(ops.time(t, y[sweep.clock]), y, sweep.theta)))

    def reported(self, report: Report, state: _Watched) -> Report:
        """With the event."""
        return report._replace(event=state.happened)

    def give_begin(self, state: _Watched) -> Any:
        """Nothing to remember."""
        return ()

    def give(
        self, sweep: Any, state: _Watched, place: Any, bars: Any, n: Any, step: AcceptedStep, inside: Inside
    ) -> tuple[Any, Any, Inside]:
        """The cotangent of the state at the event, the time of the event held fixed."""
        ops = sweep.backend
        if bars.event is None:
            return place, bars.ts, inside
        is_here = state.n == n
        if ops.may(is_here):
            _, h = sweep.grid.place(ops, step)
            rate = None if bars.ts is None else ops.pair(bars.event, state.happened.slope)
            more = drawn(ops, sweep.pair, inside, state.x, h, bars.event, rate)
            inside = ops.choose(is_here, lambda: more, lambda: inside)
        return place, bars.ts, inside


def crosses(before: Any, after: Any, direction: int) -> Any:
    """Whether an event of these two values has happened between them."""
    rises, falls = (before < 0.0) & (after >= 0.0), (before > 0.0) & (after <= 0.0)
    return rises if direction > 0 else falls if direction < 0 else rises | falls


def _any(flags: tuple[Any, ...]) -> Any:
    found = flags[0]
    for flag in flags[1:]:
        found = found | flag
    return found


class _Search(NamedTuple):
    low: Any
    high: Any
    at_low: Any
    at_high: Any
    rounds: Any


def find_root(ops: Any, value: Callable[[Any], Any], low: Any, high: Any, at_low: Any) -> Any:
    """Where ``value`` has just changed its sign after low: the Illinois method and bisection by turns."""
    is_positive = at_low > 0.0

    def is_wide(search: _Search) -> Any:
        is_open = (search.high - search.low > _WIDTH * search.high) & (search.at_high != 0.0)
        return is_open & (search.rounds < _ROUNDS)

    def narrow(search: _Search) -> _Search:
        low, high, at_low, at_high, rounds = search
        width = high - low
        secant = high - at_high * (width / (at_high - at_low))
        middle = low + 0.5 * width
        is_turn = (rounds % 3 == 2) | (((secant > low) & (secant < high)) ^ True)
        x = ops.choose(is_turn, lambda: middle, lambda: secant)
        found = value(x)
        is_before = ops.choose(is_positive, lambda: found > 0.0, lambda: found < 0.0)
        # Halving the value at the end that stays makes the next secant cross over.
        new = ops.choose(
            is_before,
            lambda: _Search(x, high, found, 0.5 * at_high, rounds + 1),
            lambda: _Search(low, x, 0.5 * at_low, found, rounds + 1),
        )
        return ops.choose(is_wide(search), lambda: new, lambda: search)

    return ops.while_loop(is_wide, narrow, _Search(low, high, at_low, value(high), 0)).high
