"""How a JAX solve takes its steps, as static data: what of a sweep does not depend on the values of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.adaptive import AdaptiveSweep
from janode.core.continuous import ContinuousRungeKutta
from janode.core.controllers import PIDController, Tolerances
from janode.core.grids import FixedGrid, Stops
from janode.core.protocols import Array, Method, State
from janode.core.solution import Report, Stats
from janode.core.sweep import Sweep
from janode.core.taps import KeepDense, Tap, taps_of
from janode.core.thinning import Thinning

from .jax_taps import ClosedEvents

MAX_STEPS = 4096


@dataclass(frozen=True)
class FixedSteps:
    """Steps of a grid given in advance."""

    grid: FixedGrid

    def sweep(self, ts: Array, arrays: Any, **parts: Any) -> Sweep:
        """The sweep for these arrays."""
        return Sweep(grid=self.grid, ts=ts, **parts)

    def known_by(self, read: Callable[[Any], Hashable]) -> Hashable:
        """All that a program depends on."""
        return self

    def stats(self, method: Method, report: Report) -> Stats:
        """The counts of the way forward."""
        num_steps = self.grid.num_steps
        evaluations = sum(len(phase.stepper.c) * phase.num_steps for phase in method.phases(num_steps))
        return Stats(num_steps, num_steps, 0, evaluations, 0)


@dataclass(frozen=True)
class AdaptiveSteps:
    """Steps that follow from the error; stop i is ``ts[rows[i]]``, or ``times[i]`` where ``rows[i]`` is -1."""

    controller: PIDController
    rows: tuple[int, ...]
    times: tuple[float, ...]
    jumps: tuple[bool, ...]
    saves_between: bool
    max_steps: int
    checkpoints: int | None
    events: ClosedEvents | None = None
    is_dense: bool = False
    tree: Any = None
    """The structure of the state."""

    def sweep(self, ts: Array, arrays: tuple[tuple[State, State], Sequence[Array]], **parts: Any) -> AdaptiveSweep:
        """The sweep for these arrays: tolerances, and constants of the events."""
        tolerances, constants = arrays
        times = jnp.stack([ts[row] if row >= 0 else jnp.asarray(t, ts.dtype) for row, t in self._stops])
        known_ts = parts["backend"].scalar(ts)
        stops = Stops(
            times=times,
            known=parts["backend"].scalar(times),
            rows=jnp.asarray(self.rows),
            jumps=jnp.asarray(self.jumps),
            num_stops=len(self.rows),
            has_jumps=any(self.jumps),
            saves_between=self.saves_between,
        )
        default = 4 * math.isqrt(self.max_steps)
        return AdaptiveSweep(
            grid=stops,
            ts=ts,
            known_ts=known_ts,
            control=self.controller,
            tolerances=Tolerances(*tolerances, norm=None if self.controller.norm is None else self._norm),
            max_steps=self.max_steps,
            taps=self._taps(constants),
            thinning=Thinning(default if self.checkpoints is None else self.checkpoints),
            **parts,
        )

    def _norm(self, ratios: State) -> Any:
        assert self.controller.norm is not None
        return self.controller.norm(jax.tree.unflatten(self.tree, ratios))

    def _taps(self, constants: Sequence[Array]) -> tuple[Tap, ...]:
        watch = [] if self.events is None else [self.events.watch(constants)]
        return taps_of(self.saves_between, [*watch, *([KeepDense()] if self.is_dense else [])])

    def known_by(self, read: Callable[[Any], Hashable]) -> Hashable:
        """All that a program depends on."""
        events = self.events
        if events is None:
            return self
        return replace(self, events=None), read(events.jaxpr), events.directions, events.samples

    @property
    def _stops(self) -> list[tuple[int, float]]:
        return list(zip(self.rows, self.times, strict=True))

    def stats(self, method: Method, report: Report) -> Stats:
        """The counts of the way forward: arrays, one number for each lane."""
        pair = ContinuousRungeKutta(method.tableau)  # type: ignore[attr-defined]
        num_tried = report.num_accepted + report.num_rejected
        per_try = max(pair.num_trial_stages, pair.end + 1) - 1
        if self._taps(()):
            per_try = len(pair.c) - 1
        per_try += any(self.jumps)
        at_start = 1 + (self.controller.first_step is None)
        return Stats(num_tried, report.num_accepted, report.num_rejected, at_start + num_tried * per_try, 0)
