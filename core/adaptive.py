"""Adaptive steps: the way forward, which finds the accepted steps, and the way back, which takes them as given.

One body serves eager libraries, where times and errors are Python floats and a condition picks a branch, and traced
ones, where they are arrays and several solves may run in lanes: there a lane that has come to its end leaves its state
alone while others go on.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Self

from .adaptive_back import Accepted, retreat
from .continuous import ContinuousRungeKutta, Trial
from .controllers import NO_MEMORY, PIDController, Tolerances, first_step, larger, smaller
from .grids import AcceptedStep, Stops
from .protocols import Array, Carry, Moment, Phase, Record, State, Time
from .solution import MAX_STEPS, NON_FINITE, STEP_UNDERFLOW, SUCCESS, Report
from .sweep import Bars, Sweep
from .taps import Reading, Tap
from .thinning import Thinning
from .walk import RUNNING, Tried, Walk

_STRETCH = 1.01
"""A step that would end this close to a stop ends there."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveSweep(Sweep):
    """One solve whose steps follow from the error; ``grid`` says at which times they must end."""

    grid: Stops  # type: ignore[assignment]
    control: PIDController
    tolerances: Tolerances
    max_steps: int
    thinning: Thinning
    known_ts: Any
    """The ts without gradient."""
    taps: tuple[Tap, ...] = ()
    """What is read from inside steps; those that may end the solve come first."""
    observe: Any = None
    """Called with (t, h, state, whether accepted) after every try, or None."""

    @cached_property
    def pair(self) -> ContinuousRungeKutta:
        """The steps with error estimate and continuous extension."""
        return ContinuousRungeKutta(self.method.tableau)  # type: ignore[attr-defined]

    @property
    def _zero(self) -> Time:
        return 0.0 * self.known_ts[0]

    @property
    def direction(self) -> Any:
        """1 or -1."""
        known = self.grid.known
        return self.backend.choose(known[1] > known[0], lambda: 1.0, lambda: -1.0)

    @cached_property
    def _error_order(self) -> int:
        """The order of the error estimate in h."""
        tableau = self.pair.tableau
        assert tableau.embedded_order is not None
        return min(tableau.order, tableau.embedded_order) + 1

    def stepper(self, is_extended: bool) -> Any:
        """Who takes a step: with the extended stages, or without."""
        return self.pair if is_extended else self.method

    def with_times(self, ts: Sequence[Time]) -> Self:
        """The sweep with times of the same values that carry a gradient."""
        stops = [ts[row] if row >= 0 else t for row, t in zip(self.grid.rows, self.grid.known, strict=True)]
        return replace(self, ts=ts, grid=replace(self.grid, times=stops))

    def advance(self, y0: State, record: Record) -> tuple[Any, Any, Any]:
        """The whole way forward: (report, accepted steps with their records, last carry)."""
        ops = self.backend
        walk = ops.while_loop(_is_running, partial(self._try, record), self._begin(y0, record))
        time = self.grid.known[walk.segment] + walk.offset
        num_rejected = walk.num_tried - walk.num_accepted
        last = self.method.output(walk.carry)
        outputs = Report(walk.rows, walk.status, walk.num_accepted, num_rejected, time, last)
        for tap, state in zip(self.taps, walk.taps, strict=True):
            outputs = tap.reported(outputs, state)
        return outputs, Accepted(walk.num_accepted, walk.steps, walk.taps, walk.kept), walk.carry

    def way(self, records: Accepted) -> Accepted:
        """The accepted steps, without records."""
        return records._replace(kept=None)

    def again(self, y0: State, way: Accepted, record: Record) -> Accepted:
        """The accepted steps with their records, taken once more."""
        ops = self.backend

        def redo(state: Any) -> Any:
            n, carry, kept = state
            here = n < way.num_steps
            following, record_of_step = self.redone(way, smaller(ops, n, self.max_steps - 1), carry, record)
            kept = self._kept(kept, n, record_of_step, here)
            return *ops.choose(here, lambda: (n + 1, following), lambda: (n, carry)), kept

        carry = self.method.start(y0)
        example = record.keep(carry, [y0] * len(self.stepper(bool(self.taps)).c))
        state = 0, carry, ops.recorder(self.thinning.num_slots(self.max_steps), example)
        return way._replace(kept=ops.while_loop(lambda state: state[0] < way.num_steps, redo, state)[2])

    def redone(self, way: Accepted, n: Any, carry: Carry, record: Record) -> tuple[Carry, Any]:
        """(carry after the accepted step n, its record)."""
        step = AcceptedStep(*self.backend.take(way.steps, n))
        stepper = self.stepper(bool(self.taps) and self.backend.may(step.is_read))
        return record.advance(self, carry, self.moment(Phase(stepper, 0), step, self.method.output(carry)))

    def report(self, outputs: Report) -> Report:
        """How the way forward went."""
        is_finite = self.backend.all_finite(outputs.last)
        return outputs._replace(status=self.backend.choose(is_finite, lambda: outputs.status, lambda: NON_FINITE))

    # The way forward

    def _begin(self, y0: State, record: Record) -> Walk:
        ops, stops = self.backend, self.grid
        carry = self.method.start(y0)
        start = AcceptedStep(0, self._zero, self._zero, False)
        moment = self.moment(Phase(self.method, 0), start, y0)  # type: ignore[arg-type]
        f0, kept = record.evaluate(self, moment.times[0], y0, self.theta)
        longest = smaller(ops, abs(stops.known[1] - stops.known[0]), self.control.max_step)
        if self.control.first_step is None:

            def slope_after(h: Time) -> State:
                signed = self.direction * h
                y = ops.linear_combination(y0, signed, (1.0,), (f0,))
                euler = start._replace(h=signed, is_end=h >= abs(stops.known[1] - stops.known[0]))
                end = self.moment(Phase(self.pair, 0), euler, y0).times[self.pair.end]
                return self.field(end, y, self.theta)

            size = first_step(ops, self.tolerances, self._error_order, y0, f0, longest, slope_after)
        else:
            size = self._zero + self.control.first_step
        size = larger(ops, size, self._zero + self.control.min_step)
        missing = tuple(math.nan + leaf for leaf in ops.zeros(y0))
        rows = ops.put(ops.buffer(self.num_times, missing), 0, y0)
        example = record.keep(carry, [kept] * len(self.stepper(bool(self.taps)).c))
        return Walk(
            status=RUNNING,
            num_accepted=0,
            num_tried=0,
            segment=0,
            offset=self._zero,
            size=size,
            memory=NO_MEMORY,
            may_grow=True,
            carry=carry,
            first=(f0, kept),
            rows=rows,
            taps=tuple(tap.begin(self, y0, f0) for tap in self.taps),
            steps=ops.recorder(self.max_steps, start),
            kept=ops.recorder(self.thinning.num_slots(self.max_steps), example),
        )

    def _try(self, record: Record, walk: Walk) -> Walk:
        """One step, accepted or rejected."""
        ops, control = self.backend, self.control
        step, is_short = self._proposed(walk)
        t, h = self.grid.known[step.segment] + step.offset, step.h
        y = self.method.output(walk.carry)
        if self.before is not None:
            self.before(t, h, y)
        moment = self.moment(Phase(self.pair, 0), step, y)
        trial, evaluations = self._taken(record, walk, moment)
        error = self.tolerances.norm_of(ops, trial.error, y, self.method.output(trial.carry))
        is_good = error <= 1.0
        if control.accepts_min_step:
            is_good = is_good | ((abs(h) <= control.min_step) & (error < math.inf))  # false for NaN
        is_running = _is_running(walk)
        is_accepted = is_running & is_good
        if self.observe is not None:
            self.observe(t, h, self.method.output(trial.carry), is_accepted)
        walk = walk._replace(num_tried=ops.choose(is_running, lambda: walk.num_tried + 1, lambda: walk.num_tried))
        if ops.may(is_accepted):
            tried = Tried(step, is_short, moment, trial, evaluations, error)
            walk = self._accepted(record, walk, tried, is_accepted)
        is_rejected = is_running & (is_accepted ^ True)
        if ops.may(is_rejected):
            size = abs(h) * control.shrunk(ops, error, self._error_order)
            if control.accepts_min_step:
                least = self._zero + control.min_step
                size = ops.choose(abs(h) > least, lambda: larger(ops, size, least), lambda: size)
            walk = walk._replace(
                size=ops.choose(is_rejected, lambda: size, lambda: walk.size),
                may_grow=ops.choose(is_rejected, lambda: False, lambda: walk.may_grow),
                status=ops.choose(
                    is_rejected & ((size < control.min_step) | (t + self.direction * size == t)),
                    lambda: STEP_UNDERFLOW,
                    lambda: walk.status,
                ),
            )
        is_out = _is_running(walk) & (walk.num_tried >= self.max_steps)
        return walk._replace(status=ops.choose(is_out, lambda: MAX_STEPS, lambda: walk.status))

    def _proposed(self, walk: Walk) -> tuple[AcceptedStep, Any]:
        """The next step, and whether a stop makes it much shorter than it would be."""
        ops, known = self.backend, self.grid.known
        # A lane that has come to its end stays in its last segment.
        segment = smaller(ops, walk.segment, self.grid.num_stops - 2)
        left = abs(known[segment + 1] - (known[segment] + walk.offset))
        size = smaller(ops, walk.size, self._zero + self.control.max_step)
        is_end = left <= smaller(ops, _STRETCH * size, self._zero + self.control.max_step)
        h = self.direction * ops.choose(is_end, lambda: left, lambda: size)
        return AcceptedStep(segment, walk.offset, h, is_end), is_end & (left < 0.9 * size)

    def _taken(self, record: Record, walk: Walk, moment: Moment) -> tuple[Trial, list[Any]]:
        """The trial, and what is kept of its field evaluations."""
        first, kept = walk.first
        requests = self.pair.trial(self.backend, walk.carry, first, moment.h)
        stages = range(1, self.pair.num_trial_stages)
        trial, evaluations = self._evaluated(record, requests, moment, stages)
        return trial, [kept, *evaluations]

    def _evaluated(
        self, record: Record, requests: Generator[State, State, Any], moment: Moment, stages: Sequence[int]
    ) -> tuple[Any, list[Any]]:
        """(what the requests return, what is kept of the field evaluations that they ask for)."""
        evaluations: list[Any] = []
        reply: Any = None
        try:
            for i in stages:
                y = requests.send(reply)
                reply, kept = record.evaluate(self, moment.times[i], y, moment.thetas[i])
                evaluations.append(kept)
            requests.send(reply)
        except StopIteration as done:
            return done.value, evaluations
        raise AssertionError("a step asked for more field values than its stepper has stages")

    def _accepted(self, record: Record, walk: Walk, tried: Tried, where: Any) -> Walk:
        """The walk after an accepted step, where it is one."""
        ops, stops, step = self.backend, self.grid, tried.step
        y_next = self.method.output(tried.trial.carry)
        end = stops.known[step.segment] + step.offset + step.h
        segment = step.segment + ops.choose(step.is_end, lambda: 1, lambda: 0)
        is_done = where & (segment == stops.num_stops - 1)
        is_read: Any = False
        for tap, state in zip(self.taps, walk.taps, strict=True):
            is_read = is_read | tap.wants(self, state, end)
        last, slopes, evaluations = self._at_end(record, walk, tried, is_done, is_read)
        stops_here: Any = False
        if ops.may(is_read):
            walk, stops_here, more = self._read(record, walk, tried, slopes, end, where)
            evaluations = evaluations + more
            is_done = is_done | stops_here
        if stops.has_jumps:
            last = self._beyond_jump(record, last, segment, y_next, where & step.is_end & (is_done ^ True))
        is_row = step.is_end & (stops.rows[step.segment + 1] >= 0) & (stops_here ^ True)
        row = ops.choose(is_row, lambda: stops.rows[step.segment + 1], lambda: -1)
        kept = record.keep(walk.carry, evaluations[: len(self.stepper(ops.may(is_read)).c)])
        walk = walk._replace(
            rows=ops.put(walk.rows, larger(ops, row, 0), y_next, where=where & is_row),
            steps=ops.put(walk.steps, walk.num_accepted, step._replace(row=row, is_read=is_read), where=where),
            kept=self._kept(walk.kept, walk.num_accepted, kept, where),
        )
        return self._moved_on(walk, tried, segment, last, is_done, where)

    def _at_end(
        self, record: Record, walk: Walk, tried: Tried, is_done: Any, is_read: Any
    ) -> tuple[Any, list[State], list[Any]]:
        """(the field at the end, evaluated if somebody needs it, and all slopes, and what is kept of evaluations)."""
        pair, moment, slopes, evaluations = self.pair, tried.moment, list(tried.trial.slopes), tried.evaluations
        if pair.end < len(slopes):
            return (slopes[pair.end], evaluations[pair.end]), slopes, evaluations
        if not self.backend.may((is_done ^ True) | is_read):
            return walk.first, slopes, evaluations
        y_next = self.method.output(tried.trial.carry)
        last = record.evaluate(self, moment.times[pair.end], y_next, moment.thetas[pair.end])
        return last, [*slopes, last[0]], [*evaluations, last[1]]

    def _read(
        self, record: Record, walk: Walk, tried: Tried, slopes: list[State], end: Time, where: Any
    ) -> tuple[Walk, Any, list[Any]]:
        """(the walk with what taps read from the step, whether one ends the solve, what is kept of evaluations)."""
        ops, pair, step = self.backend, self.pair, tried.step
        y, y_next = self.method.output(walk.carry), self.method.output(tried.trial.carry)
        requests = pair.extension(ops, y, slopes, tried.moment.h)
        extended, more = self._evaluated(record, requests, tried.moment, range(len(slopes), len(pair.c)))
        reading = Reading(walk.num_accepted, step, *self.grid.place(ops, step), end, False, y, extended, y_next)
        taps, rows = [], walk.rows
        for tap, state in zip(self.taps, walk.taps, strict=True):
            state, rows, reading = tap.read(self, state, rows, reading, where)
            taps.append(state)
        return walk._replace(taps=tuple(taps), rows=rows), reading.stops, more

    def _moved_on(self, walk: Walk, tried: Tried, segment: Any, last: Any, is_done: Any, where: Any) -> Walk:
        """The walk at the start of the next step, where this one is accepted; ``last`` is the field there."""
        ops, step, is_short, error = self.backend, tried.step, tried.is_short, tried.error
        size = self._next_size(walk, step.h, error, is_short)
        new = (
            ops.choose(is_done, lambda: SUCCESS, lambda: RUNNING),
            walk.num_accepted + 1,
            segment,
            ops.choose(step.is_end, lambda: self._zero, lambda: step.offset + step.h),
            size,
            ops.choose(is_short, lambda: walk.memory, lambda: self.control.remembered(ops, error, walk.memory)),
            True,
            tried.trial.carry,
            last,
        )
        names = ("status", "num_accepted", "segment", "offset", "size", "memory", "may_grow", "carry", "first")
        old = tuple(getattr(walk, name) for name in names)
        return walk._replace(**dict(zip(names, ops.choose(where, lambda: new, lambda: old), strict=True)))

    def _beyond_jump(self, record: Record, first: Any, segment: Any, y: State, where: Any) -> Any:
        """The field at the start of a segment that begins with a discontinuity, else ``first``, that before it."""
        ops, stops = self.backend, self.grid
        segment = smaller(ops, segment, stops.num_stops - 2)
        is_jump = where & stops.jumps[segment]
        if not ops.may(is_jump):
            return first
        start = AcceptedStep(segment, self._zero, self._zero, False)
        after = self.moment(Phase(self.method, 0), start, y).times[0]  # type: ignore[arg-type]
        again = record.evaluate(self, after, y, self.theta)
        return ops.choose(is_jump, lambda: again, lambda: first)

    def _kept(self, buffer: Any, n: Any, record: Any, where: Any) -> Any:
        """The buffer of records with that of step n, if it is one that is kept."""
        ops = self.backend
        is_kept = where & (n % self.thinning.distance(ops, n, self.max_steps) == 0)
        return ops.put(buffer, self.thinning.slot(ops, n, self.max_steps), record, where=is_kept)

    def _next_size(self, walk: Walk, h: Time, error: Any, is_short: Any) -> Time:
        """The size after an accepted step; one that a stop cut short does not bring it down."""
        ops = self.backend
        size = abs(h) * self.control.grown(ops, error, walk.memory, self._error_order, walk.may_grow)
        size = ops.choose(is_short, lambda: larger(ops, size, walk.size), lambda: size)
        return larger(ops, size, self._zero + self.control.min_step)

    def retreat(self, records: Accepted, record: Record, bars: Bars) -> tuple[Bars, Any]:
        """The whole way back over the accepted steps, last first: (bars, nothing)."""
        return retreat(self, records, record, bars), ()

    def moment(self, phase: Phase, step: Any, state: State, stepper: Any = None) -> Moment:
        """The step size, and the time and theta of each stage, on the correct side of a discontinuity."""
        ops = self.backend
        stepper = phase.stepper if stepper is None else stepper
        like = state[self.clock]
        t, h = self.grid.place(ops, step)
        times: dict[float, Array] = {}
        for c in stepper.c:
            if c not in times:
                time = ops.time(self._time(self.grid.times, step, t, h, c), like)
                times[c] = self._on_side(time, step, c, like) if self.grid.has_jumps else time
        return Moment(h, stepper, tuple([times[c] for c in stepper.c]), (self.theta,) * len(stepper.c))

    def _time(self, stops: Any, step: AcceptedStep, t: Time, h: Time, c: float) -> Time:
        """t + c h; at the end of a step that a stop ends the stop, which rounding must not take the sum beyond."""
        if c == 1.0:
            return self.backend.choose(step.is_end, lambda: stops[step.segment + 1], lambda: t + h)
        return t + c * h if c else t

    def _on_side(self, time: Array, step: AcceptedStep, c: float, like: Array) -> Array:
        """The time, moved off the discontinuities that bound the segment by a shift without gradient."""
        ops, known = self.backend, self.grid.known
        xp, segment = ops.xp, step.segment
        plain = ops.time(self._time(known, step, known[segment] + step.offset, step.h, c), like)
        start, end = ops.time(known[segment], like), ops.time(known[segment + 1], like)
        first = ops.choose(self.grid.jumps[segment], lambda: xp.nextafter(start, end), lambda: start)
        last = ops.choose(self.grid.jumps[segment + 1], lambda: xp.nextafter(end, start), lambda: end)
        least = ops.choose(self.direction > 0.0, lambda: first, lambda: last)
        most = ops.choose(self.direction > 0.0, lambda: last, lambda: first)
        return time + (xp.minimum(xp.maximum(plain, least), most) - plain)


def _is_running(walk: Walk) -> Any:
    return walk.status == RUNNING
