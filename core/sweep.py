"""The sweep over the steps of a grid, forwards with a record of each step and backwards from those records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

from .controls import Controls
from .grids import FixedGrid
from .protocols import (
    Array,
    Backend,
    Carry,
    Field,
    Method,
    Moment,
    Phase,
    Record,
    StageReply,
    State,
    Time,
)
from .solution import NON_FINITE, SUCCESS, Report


class Bars(NamedTuple):
    """The cotangents a backward sweep carries from step to step."""

    ys: Any
    """Buffer: cotangents of the outputs at every time."""
    carry: Carry
    theta: State
    """Totals for the shared leaves of theta whose cotangents are wanted."""
    ts: Any
    """Buffer of totals for every time, or None where no time gradient is wanted."""
    event: Any = None
    """The cotangent of the state at the event that ended the solve."""
    dense: Any = None
    """Buffer: cotangents of the continuous extension of every step."""
    error: Array | None = None
    """How far a backward pass that steps back missed the initial state, relative; None for the others."""
    estimate: Array | None = None
    """The estimated error of the gradient, relative, where the recovery makes one."""


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
    controls: Controls | None = None
    keeps_costates: bool = False
    """Whether a step also sends the cotangent of the state it starts from, behind those of its stages' controls."""
    before: Any = None
    """Called with (t, h, state) before every step of the way forward, or None."""
    is_perturbed: bool = False
    """Whether stages at the ends of a step see the field just inside of it."""
    span: tuple[int, int] | None = None
    """The first step that is taken and the one behind the last, or None for all."""

    @property
    def num_times(self) -> int:
        """The number of ts."""
        return len(self.ts)

    @property
    def num_steps(self) -> int:
        """The number of steps N of the whole sweep."""
        return self.grid.num_steps

    @property
    def num_taken(self) -> int:
        """The number of steps that are taken."""
        first, last = self.span or (0, self.num_steps)
        return last - first

    def with_times(self, ts: Sequence[Time]) -> Self:
        """The sweep with times of the same values that carry a gradient."""
        return replace(self, ts=ts)

    def way(self, records: Any) -> Any:
        """What of the records of a sweep that kept nothing tells which steps it took: nothing, on a fixed grid."""
        return ()

    def again(self, y0: State, way: Any, record: Record) -> Any:
        """The records of the same steps, taken once more."""
        return self.advance(y0, record)[1]

    def report(self, outputs: Any) -> Report:
        """How the way forward went, from its outputs: one host read per leaf on eager libraries."""
        last = self.backend.take(outputs, self.num_times - 1)
        status = self.backend.choose(self.backend.all_finite(last), lambda: SUCCESS, lambda: NON_FINITE)
        return Report(outputs, status, self.num_steps, 0)

    def advance(self, y0: State, record: Record) -> tuple[Any, Any, Any]:
        """The whole way forward: (outputs, records of each phase, last carry).

        The outputs are a buffer of the states at every time: each step writes the row of the time its interval ends
        with, so the last step of an interval leaves its end state there.
        """
        (carry, outputs), records = self.run(self.begin(y0), y0, record)
        return outputs, records, carry

    def begin(self, y0: State) -> tuple[Carry, Any]:
        """(carry, outputs) before the first step."""
        return self.method.start(y0), self.backend.buffer(len(self.grid.counts) + 1, y0)

    def part(self, first: int, last: int) -> Self:
        """The sweep over the steps from ``first`` to before ``last``."""
        return replace(self, span=(first, last))

    def run(self, state: tuple[Carry, Any], like: State, record: Record) -> tuple[tuple[Carry, Any], Any]:
        """((carry, outputs) behind the steps of this sweep, records of each phase), from those before them."""
        records = []
        for phase, steps in self.phases():

            def body(state: Any, step: Any, phase: Phase = phase) -> Any:
                carry, outputs = state
                if self.before is not None:
                    self.before(*self.grid.place(self.ts, *step[:3]), self.method.output(carry))
                carry, kept = record.advance(self, carry, self.moment(phase, step, like))
                return (carry, self.backend.put(outputs, step[0] + 1, self.method.output(carry))), kept

            state, kept = self.backend.scan(body, state, steps)
            records.append(kept)
        return state, tuple(records)

    def retreat(self, records: Any, record: Record, bars: Bars) -> tuple[Bars, Any]:
        """The whole way back, last step first: (bars, for each phase what each step sends to its stages' controls)."""
        sent = []
        for (phase, steps), kept in reversed(list(zip(self.phases(), records, strict=True))):

            def body(bars: Bars, row: Any, phase: Phase = phase) -> tuple[Bars, State]:
                step, kept = row
                return self.pull_step(phase, step, record, kept, bars)

            bars, from_phase = self.backend.scan(body, bars, (steps, kept), reverse=True)
            sent.append(from_phase)
        return bars, tuple(reversed(sent))

    def pull_step(self, phase: Phase, step: Any, record: Record, kept: Any, bars: Bars) -> tuple[Bars, State]:
        """One step of the way back, from its row in ``phases``: (bars, what it sends to its stages' controls)."""
        backend, method = self.backend, self.method
        k, start, share, is_end, *_ = step
        carry = backend.choose(
            is_end,
            lambda: method.output_vjp(bars.carry, backend.take(bars.ys, k + 1), backend),
            lambda: bars.carry,
        )
        moment = self.moment(phase, step, backend.take(bars.ys, 0))
        bars, t_bar, h_bar, sent = self.pull_stages(
            record.linearizations(self, kept, moment), moment, bars._replace(carry=carry)
        )
        if bars.ts is not None:
            bars = bars._replace(ts=self.grid.place_vjp(backend, bars.ts, (k, start, share), t_bar, h_bar))
        if self.keeps_costates:
            sent += method.start_vjp(bars.carry)
        return bars, sent

    def phases(self) -> Iterator[tuple[Phase, Any]]:
        """Each phase with the rows of its steps: the grid's, and the first nodes of each step and of the next."""
        rows: tuple[Any, ...] = self.grid.steps
        if self.controls is not None:
            bases = self.controls.layout.bases
            rows = (*rows, bases[:-1], bases[1:])
        begin, end = self.span or (0, self.grid.num_steps)
        last = 0
        for stepper, count in self.method.phases(self.grid.num_steps):
            first, last = last, last + count
            taken = slice(max(first, begin), min(last, end))
            if taken.start < taken.stop or self.span is None:
                yield Phase(stepper, taken.stop - taken.start), tuple(row[taken] for row in rows)

    def moment(self, phase: Phase, step: Any, state: State, c: Sequence[float] | None = None) -> Moment:
        """The step size, and the stage times and thetas, each made once for stages that share it.

        ``step`` is a row of ``phases``; the stages lie at the abscissae c, by default at those of the stepper.
        """
        k, start, share, _, *nodes = step
        t, h = self.grid.place(self.ts, k, start, share)
        like, c = state[self.clock], phase.stepper.c if c is None else c
        times: dict[float, Array] = {}
        for place in c:
            if place not in times:
                times[place] = self.backend.time(t + place * h if place else t, like)
                if self.is_perturbed and place in (0.0, 1.0):
                    times[place] = self._inside(times[place], t + (1.0 - place) * h, like)
        return Moment(h, phase.stepper, tuple([times[place] for place in c]), self._thetas(phase, c, nodes))

    def _inside(self, time: Array, other: Time, like: Array) -> Array:
        """The time of one end of a step moved to the next number towards the other end; its gradient stays."""
        ops = self.backend
        here, there = (ops.time(ops.scalar(ops.time(t, like)), like) for t in (time, other))
        return time + (ops.xp.nextafter(here, there) - here)

    def _thetas(self, phase: Phase, c: Sequence[float], nodes: Sequence[Any]) -> tuple[State, ...]:
        if self.controls is None:
            return (self.theta,) * len(c)
        base, following = nodes
        read: dict[int | None, State] = {}
        places = self.controls.layout.places(phase, c)
        for place in places:
            if place not in read:
                node = following if place is None else base + place
                read[place] = self.theta + self.backend.take(self.controls.nodes, node)
        return tuple([read[place] for place in places])

    def pull_stages(
        self, linearization: Any, moment: Moment, bars: Bars, slope_bars: Sequence[State] = ()
    ) -> tuple[Bars, Array | None, Any, State]:
        """Pull the carry's cotangent, and those of the stages' field values if given, back through one step.

        Adds to theta; returns the cotangents of t_n and h_n, and those of the controls that its stages read.
        """
        backend, stepper = self.backend, moment.stepper
        needs_time = bars.ts is not None
        num_shared = len(bars.theta)
        theta_bar = bars.theta
        abscissae: list[float] = []
        stage_t_bars: list[State] = []
        sent: dict[int, State] = {}

        def pull(i: int, f_bar: State) -> StageReply:
            # The linearization dies with this call, before the next one is made.
            nonlocal theta_bar
            stage = linearization(i)
            f = stage.f if needs_time else None
            stage_t_bar, y_bar, addends = stage.pull(f_bar)
            theta_bar = backend.accumulate(theta_bar, addends[:num_shared])
            if self.controls is not None:
                sent[i] = self.filled(addends[num_shared:], moment.thetas[i])
            if needs_time and stage_t_bar is not None:
                abscissae.append(stepper.c[i])
                stage_t_bars.append((stage_t_bar,))
            return StageReply(f, y_bar)

        more = (slope_bars,) if slope_bars else ()
        requests = stepper.step_vjp(backend, bars.carry, moment.h, *more)
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
        return bars._replace(carry=carry_bar, theta=theta_bar), t_bar, h_bar, self._in_stage_order(sent, moment)

    def filled(self, addends: Any, theta: State) -> State:
        """Control cotangents with zeros for None."""
        rows = theta[len(self.theta) :]
        return tuple(
            self.backend.zeros((row,))[0] if bar is None else bar for bar, row in zip(addends, rows, strict=True)
        )

    def _in_stage_order(self, sent: dict[int, State], moment: Moment) -> State:
        """The control cotangents of all stages in one row; zeros for a stage the method did not pull."""
        if self.controls is None:
            return ()
        row: State = ()
        for i, theta in enumerate(moment.thetas):
            row += sent[i] if i in sent else self.backend.zeros(theta[len(self.theta) :])
        return row
