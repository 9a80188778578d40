"""The sweep over the steps of a grid, forwards with a record of each step and backwards from those records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .grids import FixedGrid
from .protocols import Array, Backend, Carry, Field, Method, Moment, Record, StageReply, State, Time


class Bars(NamedTuple):
    """The cotangents a backward sweep carries from step to step."""

    ys: Any
    """Buffer: cotangents of the outputs at every time."""
    carry: Carry
    theta: State
    """Totals for the leaves of theta whose cotangents are wanted."""
    ts: Any
    """Buffer of totals for every time, or None where no time gradient is wanted."""


@dataclass(frozen=True)
class Sweep:
    """One solve on a grid: everything that stays the same from step to step."""

    backend: Backend
    method: Method
    field: Field
    grid: FixedGrid
    ts: Sequence[Time] | Array
    theta: State
    clock: int = 0
    """Which leaf of the state gives the stage times their dtype and device."""

    def moment(self, t: Time, h: Time, state: State) -> Moment:
        """The step size and the stage times, as arrays made once for equal abscissae."""
        like = state[self.clock]
        made: dict[float, Array] = {}
        for c in self.method.c:
            if c not in made:
                made[c] = self.backend.time(t + c * h if c else t, like)
        return Moment(h, tuple([made[c] for c in self.method.c]))

    def advance(self, y0: State, record: Record) -> tuple[Any, Any, Any]:
        """The whole way forward: (outputs, records, last carry).

        The outputs are a buffer of the states at every time: each step writes the row of the time its interval ends
        with, so the last step of an interval leaves its end state there.
        """
        backend, method, ts = self.backend, self.method, self.ts
        intervals, starts, shares, _ = self.grid.steps

        def body(state: Any, step: Any) -> Any:
            carry, outputs = state
            k, start, share = step
            t, h = self.grid.place(ts, k, start, share)
            carry, kept = record.advance(self, carry, self.moment(t, h, y0))
            return (carry, backend.put(outputs, k + 1, method.output(carry))), kept

        outputs = backend.buffer(len(self.grid.counts) + 1, y0)
        (carry, outputs), records = backend.scan(body, (method.start(y0), outputs), (intervals, starts, shares))
        return outputs, records, carry

    def retreat(self, records: Any, record: Record, bars: Bars) -> Bars:
        """The whole way back, last step first."""
        backend, method, ts = self.backend, self.method, self.ts
        like = backend.take(bars.ys, 0)

        def body(bars: Bars, step: Any) -> tuple[Bars, tuple[()]]:
            (k, start, share, is_end), kept = step
            t, h = self.grid.place(ts, k, start, share)
            carry = backend.choose(
                is_end,
                lambda: method.output_vjp(bars.carry, backend.take(bars.ys, k + 1), backend),
                lambda: bars.carry,
            )
            bars = bars._replace(carry=carry)
            moment = self.moment(t, h, like)
            bars, t_bar, h_bar = self._pull_step(record.linearizations(self, kept, moment), moment, bars)
            if bars.ts is not None:
                ts_bar = self.grid.place_vjp(backend, bars.ts, (k, start, share), t_bar, h_bar)
                bars = bars._replace(ts=ts_bar)
            return bars, ()

        bars, _ = backend.scan(body, bars, (self.grid.steps, records), reverse=True)
        return bars

    def _pull_step(self, linearization: Any, moment: Moment, bars: Bars) -> tuple[Bars, Array | None, Array | None]:
        """Pull the carry's cotangent back through one step; adds to theta, returns the cotangents of t_n and h_n."""
        method, backend = self.method, self.backend
        needs_time = bars.ts is not None
        theta_bar = bars.theta
        abscissae: list[float] = []
        stage_t_bars: list[State] = []

        def pull(i: int, f_bar: State) -> StageReply:
            # The linearization dies with this call, before the next one is made.
            nonlocal theta_bar
            stage = linearization(i)
            f = stage.f if needs_time else None
            stage_t_bar, y_bar, addends = stage.pull(f_bar)
            theta_bar = backend.accumulate(theta_bar, addends)
            if needs_time and stage_t_bar is not None:
                abscissae.append(method.c[i])
                stage_t_bars.append((stage_t_bar,))
            return StageReply(f, y_bar)

        requests = method.step_vjp(backend, bars.carry, moment.h)
        reply: Any = None
        try:
            while True:
                reply = pull(*requests.send(reply))
        except StopIteration as done:
            carry_bar, h_bar = done.value
        t_bar = None
        if stage_t_bars:
            (t_bar,) = backend.linear_combination(None, 1.0, (1.0,) * len(stage_t_bars), stage_t_bars)
            (h_bar,) = backend.linear_combination((h_bar,), 1.0, abscissae, stage_t_bars)
        return bars._replace(carry=carry_bar, theta=theta_bar), t_bar, h_bar
