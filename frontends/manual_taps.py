"""Events and dense output of manual backprop: what the solve reads from inside its steps, and their cotangents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from janode.core.errors import InputError
from janode.core.events import Event, Happened, Watch, read_events
from janode.core.interpolation import ContinuousSolution
from janode.core.protocols import Array, State
from janode.core.solution import EventResult, Report
from janode.core.sweep import Sweep
from janode.core.taps import KeepDense, Tap

from .trees import Tree


class Taps:
    """What one solve reads from inside its steps."""

    def __init__(self, where: str, event: Any, dense: bool, state: Tree, params: Tree) -> None:
        self.where, self.state, self.params = where, state, params
        self.events: tuple[Event, ...] = read_events(where, event)
        self.is_dense = dense

    def all(self) -> Sequence[Tap]:
        """The taps, those that may end the solve first."""
        events = self.events
        watch = Watch(self._values, tuple(e.direction for e in events), max((e.samples for e in events), default=1))
        return [*([watch] if events else []), *([KeepDense()] if self.is_dense else [])]

    def _args(self, theta: State) -> list[Any]:
        size = len(self.params.leaves)
        return [] if self.params.spec is None else [self.params.build(theta[:size])]

    def _values(self, t: Array, y: State, theta: State) -> tuple[Any, ...]:
        state, args = self.state.build(y), self._args(theta)
        return tuple(self._number(event.fn(t, state, *args)) for event in self.events)

    def _number(self, value: Any) -> Any:
        shape = tuple(getattr(value, "shape", ()))
        if any(size != 1 for size in shape):
            raise InputError(
                f"{self.where}: an event must return one real number; got shape {shape}. Give several events as a list."
            )
        return value[(0,) * len(shape)] if shape else value

    def result(self, report: Report) -> EventResult[Any] | None:
        """The event that ended the solve."""
        happened = report.event
        if happened is None or happened.index < 0:
            return None
        return EventResult(happened.index, happened.time, self.state.build(happened.y))

    def interpolant(self, sweep: Any, report: Report) -> ContinuousSolution | None:
        """The solution as a function of time."""
        if report.dense is None:
            return None
        end = report.time if report.event is None or report.event.index < 0 else report.event.time
        return ContinuousSolution(sweep.backend, sweep.pair, report.dense, end, self.state.build)

    def pull_event(
        self, sweep: Sweep, happened: Happened, event_bar: Any, theta: State
    ) -> tuple[State, tuple[Any, ...]]:
        """(cotangent of the state with the time held fixed, cotangents of params) of those of the event (t, y).

        The time of the event follows from fn(t, y(t), params) = 0: dt = -(fn_y dy + fn_params dparams) / (fn_t + fn_y
        dy/dt).
        """
        ops, event = sweep.backend, self.events[happened.index]
        if event.vjp is None:
            raise InputError("pullback: an event must bring its vjp; got one without. Give Event(fn, vjp=...).")
        t_bar, given = event_bar
        y_bar = self.state.match("pullback", given, "event_bar")
        zero = ops.zeros(happened.y)
        y_bar = tuple(z if bar is None else bar for z, bar in zip(zero, y_bar, strict=True))
        t = ops.time(happened.time, happened.y[sweep.clock])
        one = ops.time(1.0, happened.y[sweep.clock])
        bars = event.vjp(t, self.state.build(happened.y), *self._args(theta), one)
        given_y = self.state.match("pullback", bars[1], "y_bar")
        fn_y = tuple(z if bar is None else bar for z, bar in zip(zero, given_y, strict=True))
        rate = (0.0 if bars[0] is None else float(bars[0])) + ops.scalar(ops.pair(fn_y, happened.slope))
        moved = (0.0 if t_bar is None else float(t_bar)) + ops.scalar(ops.pair(y_bar, happened.slope))
        factor = -moved / rate
        y_bar = ops.linear_combination(y_bar, factor, (1.0,), (fn_y,))
        params_bar = self.params.match("pullback", bars[2] if len(bars) > 2 else None, "params_bar")
        return y_bar, tuple(None if bar is None else factor * bar for bar in params_bar)
