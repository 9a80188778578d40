"""Events and dense output of manual backprop: what the solve reads from inside its steps, and their cotangents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from janode.core.errors import InputError
from janode.core.protocols import Array, State
from janode.core.solution import EventResult, Report
from janode.core.sweep import Sweep

from .eager_taps import EagerTaps
from .trees import Tree

if TYPE_CHECKING:
    from janode.core.events import Happened


class Taps(EagerTaps):
    """What one solve reads from inside its steps."""

    def __init__(self, where: str, event: Any, dense: bool, state: Tree, params: Tree) -> None:
        super().__init__(where, event, dense, state)
        self.params = params

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
