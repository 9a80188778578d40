"""The way back through the accepted steps of an adaptive solve, which are taken as given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .controllers import larger, smaller
from .grids import AcceptedStep
from .protocols import Array, Moment, Phase, Record, State
from .sweep import Bars

if TYPE_CHECKING:
    from .adaptive import AdaptiveSweep


class Accepted(NamedTuple):
    """The tape of an adaptive solve: its accepted steps, and the records of those that are kept."""

    num_steps: Any
    num_saved: Any
    steps: Any
    found_in: Any
    slopes: Any
    kept: Any


class _Return(NamedTuple):
    """How far the way back has come."""

    step: Any
    row: Any
    """The last of ts between steps that lies behind."""
    bars: Bars
    base: Any
    """The first of the steps whose records stand in ``rerun``."""
    rerun: Any
    """Buffer: the records of a run of steps, if not every step's is kept."""


class _Between(NamedTuple):
    """Cotangents from the states at the ts inside one step."""

    row: Any
    slopes: tuple[State, ...]
    y: State
    ts: Any
    t: Any
    h: Any


def retreat(sweep: AdaptiveSweep, records: Accepted, record: Record, bars: Bars) -> Bars:
    """The cotangents pulled back through all accepted steps, last first."""
    ops = sweep.backend
    slots = sweep.thinning.num_slots(sweep.max_steps)
    state = _Return(records.num_steps - 1, records.num_saved - 1, bars, -1, None)
    if slots < sweep.max_steps:
        example = ops.take(records.kept, 0)
        state = state._replace(rerun=ops.recorder(1 << sweep.thinning.doublings(sweep.max_steps), example))

    def pull(state: _Return) -> _Return:
        n = larger(ops, state.step, 0)
        is_here = state.step >= 0
        step = AcceptedStep(*ops.take(records.steps, n))
        if state.rerun is None:
            kept = ops.take(records.kept, n)
        else:
            state = _rerun(sweep, state, records, record, n, is_here)
            kept = ops.take(state.rerun, n - state.base)
        pulled, row = _pull(sweep, step, record, kept, state.bars, records, state.row, n)
        bars, row = ops.choose(is_here, lambda: (pulled, row), lambda: (state.bars, state.row))
        return state._replace(step=state.step - 1, row=row, bars=bars)

    return ops.while_loop(lambda state: state.step >= 0, pull, state).bars


def _rerun(sweep: AdaptiveSweep, state: _Return, tape: Accepted, record: Record, n: Any, where: Any) -> _Return:
    """The state with the records of the steps from the last kept one to step n."""
    ops, thinning = sweep.backend, sweep.thinning
    distance = thinning.distance(ops, tape.num_steps - 1, sweep.max_steps)
    base = n - n % distance
    is_stale = where & (base != state.base)
    first = ops.take(tape.kept, thinning.slot(ops, base, sweep.max_steps))
    loop = (ops.choose(is_stale, lambda: base, lambda: n + 1), record.carry(first), state.rerun)

    def redo(loop: Any) -> Any:
        m, carry, rerun = loop
        following, kept = sweep.redone(tape, smaller(ops, m, sweep.max_steps - 1), carry, record)
        is_needed = m <= n
        rerun = ops.put(rerun, smaller(ops, m - base, distance - 1), kept, where=is_needed)
        return *ops.choose(is_needed, lambda: (m + 1, following), lambda: (m, carry)), rerun

    _, _, rerun = ops.while_loop(lambda loop: loop[0] <= n, redo, loop)
    return state._replace(base=ops.choose(is_stale, lambda: base, lambda: state.base), rerun=rerun)


def _pull(
    sweep: AdaptiveSweep, step: AcceptedStep, record: Record, kept: Any, bars: Bars, tape: Accepted, row: Any, n: Any
) -> tuple[Bars, Any]:
    """(bars after the way back through one step, the last of ts before it that lies between steps)."""
    ops = sweep.backend
    end = sweep.grid.rows[step.segment + 1]
    carry = ops.choose(
        step.is_end & (end >= 0),
        lambda: sweep.method.output_vjp(bars.carry, ops.take(bars.ys, larger(ops, end, 0)), ops),
        lambda: bars.carry,
    )
    bars = bars._replace(carry=carry)
    has_between = sweep.saves_between and ops.may(step.holds_times)
    stepper = sweep.stepper(has_between)
    moment = sweep.moment(Phase(stepper, 0), step, sweep.method.output(bars.carry))
    linearizations = record.linearizations(sweep, kept, moment)
    if not has_between:
        bars, t_bar, h_bar, _ = sweep.pull_stages(linearizations, moment, bars)
        return _placed(sweep, bars, step, t_bar, h_bar), row
    found = _between(sweep, step, moment, bars, tape, row, n)
    bars, t_bar, h_bar, _ = sweep.pull_stages(linearizations, moment, bars._replace(ts=found.ts), found.slopes)
    if bars.ts is not None:
        t_bar = found.t if t_bar is None else t_bar + found.t
        h_bar = h_bar + found.h
    bars = bars._replace(carry=sweep.method.output_vjp(bars.carry, found.y, ops))
    return _placed(sweep, bars, step, t_bar, h_bar), found.row


def _placed(sweep: AdaptiveSweep, bars: Bars, step: AcceptedStep, t_bar: Array | None, h_bar: Any) -> Bars:
    if bars.ts is None:
        return bars
    return bars._replace(ts=sweep.grid.place_vjp(sweep.backend, bars.ts, step, t_bar, h_bar))


def _lies_in(sweep: AdaptiveSweep, tape: Accepted, row: Any, n: Any) -> Any:
    """Whether the time ``row`` lies inside step n."""
    (found,) = sweep.backend.take(tape.found_in, larger(sweep.backend, row, 0))
    return (row >= 1) & (found == n)


def _between(
    sweep: AdaptiveSweep, step: AcceptedStep, moment: Moment, bars: Bars, tape: Accepted, row: Any, n: Any
) -> _Between:
    """The cotangents that the states at the ts inside step n send to it."""
    ops, pair = sweep.backend, sweep.pair
    t, h = sweep.grid.place(ops, step)
    zero = ops.zeros(ops.take(bars.ys, 0))
    time = None if bars.ts is None else ops.zeros(ops.take(bars.ts, 0))[0]
    state = _Between(row, (zero,) * len(pair.c), zero, bars.ts, time, time)

    def pull(state: _Between) -> _Between:
        row = larger(ops, state.row, 0)
        is_here = _lies_in(sweep, tape, state.row, n)
        y_bar = ops.take(bars.ys, row)
        x = (sweep.known_ts[row] - t) / h
        weights, places = pair.weights(x)
        slopes = list(state.slopes)
        for weight, i in zip(weights, places, strict=True):
            slopes[i] = ops.linear_combination(slopes[i], moment.h, (weight,), (y_bar,))
        new = state._replace(
            row=state.row - 1, slopes=tuple(slopes), y=ops.linear_combination(state.y, 1.0, (1.0,), (y_bar,))
        )
        if state.ts is not None:
            rate = ops.pair(y_bar, ops.take(tape.slopes, row))
            (total,) = ops.linear_combination(ops.take(state.ts, row), 1.0, (1.0,), ((rate,),))
            (t_bar,) = ops.linear_combination((state.t,), -1.0, (1.0,), ((rate,),))
            (h_bar,) = ops.linear_combination((state.h,), -x, (1.0,), ((rate,),))
            new = new._replace(ts=ops.put(state.ts, row, (total,), where=is_here), t=t_bar, h=h_bar)
        chosen = ops.choose(is_here, lambda: new._replace(ts=None), lambda: state._replace(ts=None))
        return chosen._replace(ts=new.ts)

    return ops.while_loop(lambda state: _lies_in(sweep, tape, state.row, n), pull, state)
