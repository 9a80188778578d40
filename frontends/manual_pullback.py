"""The pullback of a solve by manual backprop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from janode.core import arguments
from janode.core.adjoint import Backward, Correction, Gradient, pull_back
from janode.core.backsolve import report_estimate
from janode.core.protocols import Cotangent, Recovery, State
from janode.core.solution import Gradients, Report, Solution
from janode.core.stepped_back import report
from janode.core.sweep import Sweep

from .manual_problem import Problem


@dataclass(frozen=True, eq=False)
class Pullback:
    """The pullback of one solve."""

    problem: Problem
    again: Sweep
    """The sweep as the backward pass takes it."""
    recovery: Recovery
    correction: Correction
    has_knots: bool
    solution: Solution[Any]
    tape: Any
    forward: Report

    def __call__(self, ys_bar: Any, event_bar: Any = None, dense_bar: Any = None) -> Gradients[Any]:
        """The cotangents of y0, params, ts and controls for those of the states at all ts, of the event, of the rest.

        ``event_bar`` is (t_bar, y_bar) for the event's time and state, ``dense_bar`` what ``interpolant.vjp`` gives.
        """
        field, ops = self.problem.field, self.again.backend
        state = field.state
        bars = state.match("pullback", ys_bar, "ys_bar")
        ys = state.flatten(self.solution.ys)[0]
        arguments.check_cotangents("pullback", "ys_bar", bars, ys, state.paths)
        y_bar, params_bar = self._of_event(event_bar)
        filled, rows = field.filled(bars, ys), ops.unstack(tuple(ys))
        backward = Backward(self.again, self.recovery, state.leaves, self.tape, filled, y_bar, dense_bar, rows)
        gradient = pull_back(backward, self.correction)
        report(self.solution.stats, gradient.error)
        report_estimate(self.solution.stats, gradient.estimate)
        return self._built(gradient, params_bar)

    def _of_event(self, event_bar: Any) -> tuple[State | None, Cotangent]:
        """(cotangent of the state at the event, cotangents of params) of those of the event."""
        problem = self.problem
        nothing = (None,) * len(problem.field.params.leaves)
        if event_bar is None:
            return None, nothing
        sweep = problem.sweep
        y_bar, params_bar = problem.taps.pull_event(sweep, self.forward.event, event_bar, sweep.theta)
        return y_bar, (*params_bar, *nothing[len(params_bar) :])

    def _built(self, gradient: Gradient, params_bar: Cotangent) -> Gradients[Any]:
        """The gradient, and the cotangents of params by the event, in the pytrees and dtypes of the arguments."""
        field, sweep = self.problem.field, self.problem.sweep
        totals = sweep.backend.accumulate(gradient.theta, params_bar)
        cast = tuple(
            sweep.backend.xp.astype(bar, leaf.dtype, copy=False) for bar, leaf in zip(totals, sweep.theta, strict=True)
        )
        assert gradient.ts is not None
        y0_bar, found = field.state.build(gradient.y0), field.params.build(cast)
        if self.has_knots:
            return Gradients(y0_bar, found[0], gradient.ts[0], found[1])
        return Gradients(y0_bar, found, gradient.ts[0], field.controls.build(gradient.controls))
