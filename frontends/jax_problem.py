"""One solve as a function of arrays alone: forward, and with the gradient of the core as its ``custom_vjp``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from janode.core.adaptive import AdaptiveSweep
from janode.core.adaptive_replay import replay
from janode.core.adjoint import Backward, pull_back
from janode.core.controls import Controls, NodeLayout
from janode.core.corrected import find_correction
from janode.core.protocols import Array, Backend, Method, Recovery, State
from janode.core.records import Nothing
from janode.core.recovery import Kept
from janode.core.solution import BAD_TIMES, Report
from janode.core.sweep import Sweep

from .jax_cotangents import Wanted, filled, in_places, values
from .jax_field import ClosedField, JaxField
from .jax_refusals import is_differentiated, once
from .jax_steps import AdaptiveSteps, FixedSteps
from .progress import Bar


@dataclass(frozen=True, eq=False)
class Problem:
    """What of a solve does not depend on the values of arrays; ``recovery`` is None where JAX differentiates."""

    backend: Backend
    method: Method
    steps: FixedSteps | AdaptiveSteps
    field: ClosedField
    clock: int
    checks_times: bool
    layout: NodeLayout | None
    recovery: Recovery | None = None
    correction: str = "none"
    bar: Bar | None = None
    is_forward: bool = False
    """Whether JAX differentiates in forward mode alone, so that no loop needs a known length."""

    def run(
        self, ts: Array, y0: State, theta: State, constants: State, controls: State, arrays: Any
    ) -> tuple[State, Report]:
        """(states at all ts, report); where ts is checked here and not as it must be, the solution becomes NaN."""
        is_good: Any = True
        if self.checks_times:
            rises = ts[1:] - ts[:-1]
            is_good = jnp.all(rises > 0) | jnp.all(rises < 0)
            if self.method.needs_equal_steps:
                rounding = 8 * jnp.finfo(ts.dtype).eps * jnp.max(jnp.abs(ts)) + 1e-6 * jnp.max(jnp.abs(rises))
                is_good &= jnp.max(rises) - jnp.min(rises) <= rounding
            ts = ts + jnp.where(is_good, 0.0, jnp.nan)  # added, for a selection would give ts a gradient of zero
        solve = self._plain if self.recovery is None else self._differentiable(self.recovery)
        ys, report = solve(ts, y0, theta, constants, controls, arrays)
        status = jnp.where(is_good, report.status, BAD_TIMES).astype(jnp.int32)
        given = report
        report = jax.lax.stop_gradient(report._replace(status=status))
        if given.event is not None:
            report = report._replace(event=report.event._replace(y=given.event.y))
        return ys, report._replace(dense=given.dense)

    def sweep(
        self,
        ts: Array,
        theta: State,
        constants: State,
        controls: State,
        arrays: Any,
        needs_time: bool = False,
        wanted: Sequence[bool] = (),
    ) -> Sweep:
        """The sweep for these arrays."""
        field = JaxField(self.field, constants, needs_time, wanted)
        read = None if self.layout is None else Controls(self.layout, self.backend.unstack(controls))
        return self.steps.sweep(
            ts,
            arrays,
            backend=self.backend,
            method=self.method,
            field=field,
            theta=theta,
            clock=self.clock,
            controls=read,
            before=None if self.bar is None else self._progress(self.bar, jax.lax.stop_gradient(ts)),
        )

    def _progress(self, bar: Bar, ts: Array) -> Callable[[Array, Array, State], None]:
        """Shows the way forward, at most once for every hundredth of it."""

        def before(t: Array, h: Array, state: State) -> None:
            now, then = ((end - ts[0]) / (ts[-1] - ts[0]) for end in (t, t + h))
            is_new = (jnp.floor(100 * now) < jnp.floor(100 * then + 1e-6)) | (then >= 1.0)
            jax.lax.cond(is_new, lambda: jax.debug.callback(bar.at, t + h, ts[0], ts[-1]), lambda: None)

        return before

    def _forward(
        self, ts: Array, y0: State, theta: State, constants: State, controls: State, arrays: Any
    ) -> tuple[State, Report]:
        sweep = self.sweep(ts, theta, constants, controls, arrays)
        return _reported(sweep, Kept(Nothing()).forward(sweep, y0)[0])

    def _plain(
        self, ts: Array, y0: State, theta: State, constants: State, controls: State, arrays: Any
    ) -> tuple[State, Report]:
        """The way forward as operations that JAX differentiates: a loop of unknown length is run and then replayed."""
        primals = ts, theta, constants, controls, arrays
        sweep = self.sweep(*primals)
        if self.is_forward or not isinstance(sweep, AdaptiveSweep):
            return _reported(sweep, Kept(Nothing()).forward(sweep, y0)[0])
        found = self.sweep(*jax.lax.stop_gradient(primals))
        report, tape, _ = found.advance(jax.lax.stop_gradient(y0), Nothing())
        return _reported(sweep, replay(sweep, y0, tape, report))

    def _differentiable(self, recovery: Recovery) -> Any:
        apply = jax.custom_vjp(self._forward)

        def fwd(*primals: Any) -> tuple[Any, Any]:
            wanted = Wanted.of((primals[0], *primals[2]))
            ts, y0, theta, constants, controls, arrays = given = values(primals)
            sweep = self.sweep(ts, theta, constants, controls, arrays, wanted[0], wanted[1:])
            outputs, tape = recovery.forward(sweep, y0)
            is_read = find_correction("solve", self.correction, sweep).reads_outputs
            return _reported(sweep, outputs), (wanted, given, tape, outputs if is_read else None)

        def bwd(residuals: Any, outputs_bar: Any) -> tuple[Any, ...]:
            wanted, (ts, y0, theta, constants, controls, arrays), tape, outputs = residuals
            ys_bar, report_bar = outputs_bar
            event_bar = None if report_bar.event is None else filled(report_bar.event.y)
            dense_bar = None if report_bar.dense is None else filled(report_bar.dense)
            sweep = self.sweep(ts, theta, constants, controls, arrays, wanted[0], wanted[1:])
            backward = Backward(sweep, recovery, y0, tape, filled(ys_bar), event_bar, dense_bar, outputs)
            gradient = pull_back(backward, find_correction("solve", self.correction, sweep))
            theta_bar = in_places(gradient.theta, wanted[1:], theta)
            ts_bar = None if gradient.ts is None else gradient.ts[0].astype(ts.dtype)
            found = ts_bar, gradient.y0, theta_bar, None, gradient.controls, None
            return found if is_differentiated(recovery, self.correction) else once(found)

        apply.defvjp(fwd, bwd, symbolic_zeros=True)
        return apply


def _reported(sweep: Sweep, outputs: Any) -> tuple[State, Report]:
    """(states at all ts, the rest of the report)."""
    report = sweep.report(outputs)
    return report.rows, report._replace(rows=None)
