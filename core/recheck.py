"""The checking mode: whether a field that is evaluated again returns what it returned on the way forward.

The first evaluation of a backward pass that deviates has an input which the way forward had, too, since all between
evaluations is deterministic. So it is enough to compare evaluations of known inputs, and others may occur: corrections
ask for the field elsewhere.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .errors import InputError
from .protocols import Array, Linearization, State
from .sweep import Sweep

KEEPING = ("backprop",)
MOVING = ("reversible", "reconstruct", "backsolve")
_SLACK = 16.0
"""By how many roundings the time of an evaluation may differ: the start of a step is not quite the end of another."""


@dataclass
class Evaluations:
    """Evaluations, copies of their states and values, in the order of their times."""

    times: list[float] = field(default_factory=list)
    entries: list[tuple[State, State]] = field(default_factory=list)

    def add(self, t: float, entry: tuple[State, State]) -> None:
        """Insert one."""
        place = bisect.bisect_right(self.times, t)
        self.times.insert(place, t)
        self.entries.insert(place, entry)

    def near(self, t: float, slack: float) -> list[tuple[State, State]]:
        """Those whose time is at most ``slack`` off."""
        return self.entries[bisect.bisect_left(self.times, t - slack) : bisect.bisect_right(self.times, t + slack)]


@dataclass(frozen=True)
class Rechecked:
    """A field whose evaluations are noted, or compared with those that were."""

    inner: Any
    where: str
    sweep: Sweep
    paths: Sequence[str]
    seen: Evaluations
    is_again: bool = False

    @property
    def needs_time(self) -> bool:
        """As the field itself."""
        return self.inner.needs_time

    def wanted(self, theta: State) -> State:
        """As the field itself."""
        return self.inner.wanted(theta)

    def __call__(self, t: Array, y: State, theta: State) -> State:
        """The value, noted or compared."""
        before = self._before(y)
        f = self.inner(t, y, theta)
        self._take(t, before, f)
        return f

    def linearize(self, t: Array, y: State, theta: State) -> Linearization:
        """The linearization, its value noted or compared."""
        before = self._before(y)
        found = self.inner.linearize(t, y, theta)
        self._take(t, before, found.f)
        return found

    def _before(self, y: State) -> State:
        """The state as it is before an evaluation, which might change it."""
        return y if self.is_again else _copied(y)

    def _take(self, t: Array, y: State, f: State) -> None:
        """Note an evaluation, or compare it with those of the same input, of which there are several at jumps."""
        time = float(t)
        if not self.is_again:
            self.seen.add(time, (y, _copied(f)))
            return
        slack = _SLACK * self._eps(t) * max(abs(time), *(abs(float(end)) for end in self.sweep.ts))
        known = [
            value
            for before, value in self.seen.near(time, slack)
            if all(self._differ(a, b) <= 1.0 for a, b in zip(y, before, strict=True))
        ]
        found = [[self._differ(a, b) for a, b in zip(f, value, strict=True)] for value in known]
        if not found:
            return
        nearest = min(found, key=max)
        worst = max(nearest)
        if not worst <= 1.0:
            place = nearest.index(worst)
            size = worst * math.sqrt(self._eps(f[place]))
            raise InputError(
                f"{self.where}: a field that is recomputed must return the same value again; at t = {time} its "
                f"{self.paths[place]} differs by {size:.1e} of the largest entry. Let it depend on its arguments "
                "alone, without counters, caches or random numbers of its own; params and controls may hold these."
            )

    def _differ(self, a: Array, b: Array) -> float:
        """By how much two arrays differ, relative to the largest entry of b and to what rounding may amount to."""
        xp = self.sweep.backend.xp
        if bool(xp.all((a == b) | ((a != a) & (b != b)))):
            return 0.0
        error, size = float(xp.max(xp.abs(a - b))), float(xp.max(xp.abs(b)))
        found = error / (math.sqrt(self._eps(b)) * size) if size else math.inf
        return math.inf if math.isnan(found) else found

    def _eps(self, leaf: Array) -> float:
        return float(self.sweep.backend.xp.finfo(leaf.dtype).eps)


def _copied(leaves: State) -> State:
    return tuple(1 * leaf for leaf in leaves)


def check_rechecked(where: str, adjoint: str) -> None:
    """Refuse the checking mode for an adjoint that evaluates nothing again, or that does so elsewhere."""
    name = adjoint.lower()
    if name in KEEPING or name in MOVING or name == "steppedback":
        how = "evaluates nothing again" if name in KEEPING else "evaluates the field at states that it computes anew"
        raise InputError(
            f"{where}: check_recompute must come with an adjoint that repeats evaluations of the field; got "
            f'{adjoint!r}, which {how}. Check with adjoint="symplectic".'
        )


def recorded(where: str, sweep: Sweep, paths: Sequence[str]) -> Sweep:
    """The sweep that notes all evaluations of its field.

    Cost: copies of the input and the value of every evaluation, and a few reads from the device for each that is made
    again.
    """
    noting: Any = Rechecked(sweep.field, where, sweep, paths, Evaluations())
    return replace(sweep, field=noting)


def compared(sweep: Sweep) -> Sweep:
    """The sweep for the backward pass: it compares, if the sweep noted evaluations."""
    if not isinstance(sweep.field, Rechecked):
        return sweep
    return replace(sweep, field=replace(sweep.field, is_again=True))
