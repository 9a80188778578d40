"""The accepted steps of an adaptive solve once more, as operations that a framework can differentiate in any mode.

Every step there may be is taken, those beyond the last accepted one with size zero, for such a framework must know
beforehand how many there are.
"""

from __future__ import annotations

import math
from typing import Any

from .adaptive import AdaptiveSweep
from .adaptive_back import Accepted
from .controllers import larger
from .grids import AcceptedStep
from .protocols import Carry, Phase, State
from .solution import Report
from .taps import Dense


def replay(sweep: AdaptiveSweep, y0: State, tape: Accepted, report: Report) -> Report:
    """The report of the same solve, whose states depend on y0, theta and ts by differentiable operations."""
    ops, pair = sweep.backend, sweep.pair
    stepper = sweep.stepper(bool(sweep.taps))

    def take(carry: Carry, step: Any) -> tuple[Carry, tuple[Dense, State]]:
        step = AcceptedStep(*step)
        t, h = sweep.grid.place(ops, step)
        y = sweep.method.output(carry)
        moment = sweep.moment(Phase(stepper, 0), step, y)
        requests, slopes = stepper.step(ops, carry, moment.h), []
        stage = next(requests)
        for time, theta in zip(moment.times, moment.thetas, strict=True):
            slopes.append(sweep.field(time, stage, theta))
            try:
                stage = requests.send(slopes[-1])
            except StopIteration as done:
                carry = done.value
        return carry, (Dense(t, h, y, tuple(slopes)), sweep.method.output(carry))

    _, (dense, ends) = ops.scan(take, sweep.method.start(y0), tuple(tape.steps))
    state = dict(zip((type(tap).__name__ for tap in sweep.taps), tape.taps, strict=True))
    ends_at = ops.recorder(sweep.num_times, -1)

    def note(places: Any, step: Any) -> tuple[Any, Any]:
        n, row = step
        return ops.put(places, larger(ops, row, 0), n, where=row >= 0), ()

    ends_at, _ = ops.scan(note, ends_at, (list(range(sweep.max_steps)), tape.steps.row))
    missing = tuple(math.nan + leaf for leaf in ops.zeros(y0))
    found_in = state["Between"].found_in[0] if "Between" in state else ends_at

    def gather(_: Any, row: Any) -> tuple[Any, State]:
        j, end, inside = row
        at_end = ops.choose(end >= 0, lambda: ops.take(ends, larger(ops, end, 0)), lambda: missing)
        if "Between" in state:
            step: Dense = ops.take(dense, larger(ops, inside, 0))
            h = ops.choose(inside >= 0, lambda: step.h, lambda: 1.0 + 0.0 * step.h)
            value = pair.value(ops, step.y, step.slopes, h, (sweep.ts[j] - step.t) / h)
            at_end = ops.choose(inside >= 0, lambda: value, lambda: at_end)
        return (), ops.choose(j == 0, lambda: y0, lambda: at_end)

    _, rows = ops.scan(gather, (), (list(range(sweep.num_times)), ends_at, found_in))
    report = report._replace(rows=rows)
    if "KeepDense" in state:
        times = ops.xp.where(ops.xp.isfinite(report.dense.t), dense.t, report.dense.t)  # infinite beyond the last
        report = report._replace(dense=dense._replace(t=times))
    if "Watch" in state:
        watched = state["Watch"]
        last: Dense = ops.take(dense, larger(ops, watched.n, 0))
        h = ops.choose(watched.n >= 0, lambda: last.h, lambda: 1.0 + 0.0 * last.h)
        time = ops.choose(watched.n >= 0, lambda: watched.happened.time, lambda: last.t)
        y = pair.value(ops, last.y, last.slopes, h, (time - last.t) / h)
        y = ops.choose(watched.n >= 0, lambda: y, lambda: missing)
        report = report._replace(event=report.event._replace(y=y))
    return report
