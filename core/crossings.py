"""Every crossing of several events, with an end to the solve after as many as are wanted: for eager libraries."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .events import Happened, crosses, find_root
from .grids import AcceptedStep
from .protocols import State, Time
from .solution import Report
from .taps import Inside, Reading


@dataclass(frozen=True)
class Crossings:
    """Notes where each event crosses zero; the solve ends where one of them does so for the ``limits[e]``-th time.

    ``values(t, y)`` are the events as numbers; ``directions`` for each 1 for rising ones, -1 for falling ones, 0 for
    both; each step is looked at in ``samples`` places. What is found is appended to ``found``: (event, time, state).
    """

    values: Callable[[Time, State], Sequence[float]]
    directions: Sequence[int]
    limits: Sequence[float]
    samples: int = 4
    found: list[tuple[int, Time, State]] = field(default_factory=list)

    def begin(self, sweep: Any, y0: State, f0: State) -> Any:
        """(the events at the start, the one that ended the solve)."""
        self.found.clear()
        return self.values(sweep.known_ts[0], y0), None

    def wants(self, sweep: Any, state: Any, end: Time) -> Any:
        """Every step."""
        return True

    def read(self, sweep: Any, state: Any, rows: Any, reading: Reading, where: Any) -> tuple[Any, Any, Reading]:
        """The crossings of this step, up to one that ends the solve."""
        before, low = state[0], 0.0
        for j in range(1, self.samples + 1):
            x = j / self.samples
            after = self.values(*self._at(sweep, reading, x))
            for place, e in sorted(self._places(sweep, reading, low, x, before, after)):
                t, y = self._at(sweep, reading, place)
                self.found.append((e, t, y))
                if sum(event == e for event, _, _ in self.found) >= self.limits[e]:
                    slope = sweep.pair.slope(sweep.backend, reading.slopes, place)
                    return (after, Happened(e, t, y, slope)), rows, reading._replace(end=t, stops=True)
            before, low = after, x
        return (before, None), rows, reading

    def _places(
        self, sweep: Any, reading: Reading, low: float, high: float, before: Sequence[float], after: Sequence[float]
    ) -> list[tuple[float, int]]:
        """(place in the step, event) of every crossing between two places."""
        places = []
        for e, direction in enumerate(self.directions):
            if crosses(before[e], after[e], direction):

                def value(x: float, e: int = e) -> float:
                    return self.values(*self._at(sweep, reading, x))[e]

                places.append((find_root(sweep.backend, value, low, high, before[e]), e))
        return places

    def _at(self, sweep: Any, reading: Reading, x: float) -> tuple[Time, State]:
        """(time, state) at a place of the step."""
        if x == 1.0:
            return reading.end, reading.y_next
        y = sweep.pair.value(sweep.backend, reading.y, reading.slopes, reading.h, x)
        return reading.t + x * reading.h, y

    def reported(self, report: Report, state: Any) -> Report:
        """With the event that ended the solve."""
        none = Happened(-1, math.nan, report.last, report.last)
        return report._replace(event=none if state[1] is None else state[1])

    def give_begin(self, state: Any) -> Any:
        """Nothing to remember."""
        return ()

    def give(
        self, sweep: Any, state: Any, place: Any, bars: Any, n: Any, step: AcceptedStep, inside: Inside
    ) -> tuple[Any, Any, Inside]:
        """Nothing: crossings carry no gradient."""
        return place, bars.ts, inside
