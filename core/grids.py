"""Grids of fixed steps: which steps a solve takes between its times, and the pullback to those times.

Step i of the n equal steps in [ts[k], ts[k+1]] has h = (ts[k+1] - ts[k]) / n and starts at ts[k] + (i / n) (ts[k+1] -
ts[k]), so both are linear in the two times, whichever way time runs.
"""

from __future__ import annotations

import itertools
import math
import numbers
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from .errors import InputError
from .protocols import Array, Backend, Time


@dataclass(frozen=True)
class FixedGrid:
    """``counts[k]`` equal steps between the times k and k + 1."""

    counts: tuple[int, ...]

    @property
    def num_steps(self) -> int:
        """The number of steps N of the whole solve."""
        return sum(self.counts)

    @cached_property
    def steps(self) -> tuple[list[int], list[float], list[float], list[bool]]:
        """For each step: its interval k, i / n, 1 / n, and whether it ends the interval."""
        intervals, starts, shares, ends = [], [], [], []
        for k, n in enumerate(self.counts):
            intervals += [k] * n
            starts += [i / n for i in range(n)]
            shares += [1 / n] * n
            ends += [False] * (n - 1) + [True]
        return intervals, starts, shares, ends

    @staticmethod
    def place(ts: Sequence[Time] | Array, k: Any, start: Any, share: Any) -> tuple[Time, Time]:
        """(t_n, h_n) of a step."""
        interval = ts[k + 1] - ts[k]
        return ts[k] + start * interval, share * interval

    @staticmethod
    def place_vjp(ops: Backend, ts_bar: Any, step: tuple[Any, Any, Any], t_bar: Array | None, h_bar: Array) -> Any:
        """The buffer ts_bar with the cotangents of one step's t_n (None for zero) and h_n added."""
        k, start, share = step
        for place, dt, dh in ((k, 1.0 - start, -share), (k + 1, start, share)):
            row = ops.take(ts_bar, place)
            if t_bar is not None:
                row = ops.linear_combination(row, dt, (1.0,), ((t_bar,),))
            row = ops.linear_combination(row, dh, (1.0,), ((h_bar,),))
            ts_bar = ops.put(ts_bar, place, row)
        return ts_bar


class AcceptedStep(NamedTuple):
    """One accepted step: h is signed, and the step starts ``offset`` after the stop ``segment``."""

    segment: Any
    offset: Time
    h: Time
    is_end: Any
    """Whether the step ends at the next stop; its size then is what is left to it."""
    row: Any = -1
    """Which of ts the state at its end is, or -1."""
    is_read: Any = False
    """Whether anything is read from inside it."""


@dataclass(frozen=True)
class Stops:
    """The times that adaptive steps must end at: start, end, and what the user asked for between them.

    ``times`` are the ones that the solution depends on, perhaps with a gradient, ``known`` those that decide about
    steps; ``rows[i]`` is the place of stop i in ts, or -1; ``jumps[i]`` says whether the field is discontinuous there.
    """

    times: Any
    known: Any
    rows: Any
    jumps: Any
    num_stops: int
    has_jumps: bool
    saves_between: bool
    """Whether there are ts that are no stop."""

    def place(self, ops: Backend, step: AcceptedStep) -> tuple[Time, Time]:
        """(t_n, h_n) of an accepted step, as a function of the stops with everything else frozen."""
        t = self.times[step.segment] + step.offset
        return t, ops.choose(step.is_end, lambda: self.times[step.segment + 1] - t, lambda: step.h)

    def place_vjp(self, ops: Backend, ts_bar: Any, step: AcceptedStep, t_bar: Array | None, h_bar: Array) -> Any:
        """The buffer ts_bar with the cotangents of one step's t_n (None for zero) and h_n added."""
        zero = ops.zeros((h_bar,))[0]
        clipped = ops.choose(step.is_end, lambda: h_bar, lambda: zero)
        start = ops.linear_combination((zero if t_bar is None else t_bar,), 1.0, (-1.0,), ((clipped,),))
        for row, bar in ((self.rows[step.segment], start), (self.rows[step.segment + 1], (clipped,))):
            total = ops.linear_combination(ops.take(ts_bar, row), 1.0, (1.0,), (bar,))
            ts_bar = ops.put(ts_bar, row, total, where=row >= 0)
        return ts_bar


def check_times(where: str, ts: Sequence[float]) -> None:
    """Refuse times that are too few, not finite, or not strictly monotonic."""
    if len(ts) < 2:
        raise InputError(f"{where}: ts must have at least 2 entries; got {len(ts)}. Give the start and the end.")
    for i, t in enumerate(ts):
        if not math.isfinite(t):
            raise InputError(f"{where}: ts must be finite; got ts[{i}] = {t}. Remove or replace it.")
    rising = ts[1] > ts[0]
    for i in range(len(ts) - 1):
        if ts[i + 1] == ts[i] or (ts[i + 1] > ts[i]) != rising:
            raise InputError(
                f"{where}: ts must be strictly increasing or strictly decreasing; got ts[{i}] = {ts[i]}, "
                f"ts[{i + 1}] = {ts[i + 1]}. Sort the times and remove repeated ones."
            )


def check_steps(where: str, steps: int | None, step_size: float | None) -> None:
    """Refuse anything but exactly one of a positive integer ``steps`` and a positive finite ``step_size``."""
    if (steps is None) == (step_size is None):
        got = "neither" if steps is None else f"both (steps={steps!r}, step_size={step_size!r})"
        raise InputError(f"{where}: exactly one of steps and step_size must be given; got {got}. Give one of them.")
    if steps is not None and not (_is_number(steps, numbers.Integral) and steps >= 1):
        raise InputError(
            f"{where}: steps must be an integer >= 1; got {steps!r}. It is the number of equal steps between "
            "neighbouring ts."
        )
    if step_size is not None and not (_is_number(step_size, numbers.Real) and 0.0 < step_size < math.inf):
        raise InputError(
            f"{where}: step_size must be a positive finite number; got {step_size!r}. Give its magnitude: the "
            "direction follows from ts."
        )


def check_equal_steps(where: str, grid: FixedGrid, ts: Sequence[float], method: str) -> None:
    """Refuse grids whose steps differ by more than rounding in the given times."""
    sizes = [abs(b - a) / n for (a, b), n in zip(itertools.pairwise(ts), grid.counts, strict=True)]
    is_single = array("f", ts).tolist() == list(ts)
    rounding = 8 * (2.0**-23 if is_single else 2.0**-52) * max(map(abs, ts)) / min(grid.counts)
    if max(sizes) - min(sizes) > 1e-6 * max(sizes) + rounding:
        raise InputError(
            f"{where}: steps must all be equal for method {method!r}; got sizes from {min(sizes)} to {max(sizes)}. "
            "Give equally spaced ts, or use a Runge-Kutta method."
        )


def _is_number(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def equal_steps(num_times: int, steps: int) -> FixedGrid:
    """The grid with ``steps`` equal steps between neighbouring times."""
    return FixedGrid((steps,) * (num_times - 1))


def steps_of_size(ts: Sequence[float], step_size: float) -> FixedGrid:
    """The grid with the fewest equal steps not longer than ``step_size`` between neighbouring times.

    Rounding in the given numbers adds no step: steps may be longer by one part in 1e9.
    """
    return FixedGrid(tuple(max(1, math.ceil(abs(b - a) / step_size * (1 - 1e-9))) for a, b in itertools.pairwise(ts)))
