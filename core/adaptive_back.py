"""The way back through the accepted steps of an adaptive solve, which are taken as given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .controllers import larger, smaller
from .grids import AcceptedStep
from .protocols import Array, Phase, Record
from .sweep import Bars
from .taps import no_cotangents

if TYPE_CHECKING:
    from .adaptive import AdaptiveSweep


class Accepted(NamedTuple):
    """The tape of an adaptive solve: its accepted steps, and the records of those that are kept."""

    num_steps: Any
    steps: Any
    taps: tuple[Any, ...]
    kept: Any


class _Return(NamedTuple):
    """How far the way back has come."""

    step: Any
    places: tuple[Any, ...]
    """How far each tap has come."""
    bars: Bars
    base: Any
    """The first of the steps whose records stand in ``rerun``."""
    rerun: Any
    """Buffer: the records of a run of steps, if not every step's is kept."""


def retreat(sweep: AdaptiveSweep, records: Accepted, record: Record, bars: Bars) -> Bars:
    """The cotangents pulled back through all accepted steps, last first."""
    ops = sweep.backend
    slots = sweep.thinning.num_slots(sweep.max_steps)
    places = tuple(tap.give_begin(state) for tap, state in zip(sweep.taps, records.taps, strict=True))
    state = _Return(records.num_steps - 1, places, bars, -1, None)
    if slots < sweep.max_steps:
        example = ops.take(records.kept, 0)
        state = state._replace(rerun=ops.recorder(1 << sweep.thinning.doublings(sweep.max_steps), example))

    def pull(state: _Return) -> _Return:
        n = larger(ops, state.step, 0)
        is_here = state.step >= 0
        step = AcceptedStep(*ops.take(records.steps, n))
        # A lane that is through goes on with steps of size zero, whose pullback changes nothing.
        nothing = step._replace(h=0.0 * step.h, is_end=False, row=-1, is_read=False)
        step = AcceptedStep(*ops.choose(is_here, lambda: tuple(step), lambda: tuple(nothing)))
        if state.rerun is None:
            kept = ops.take(records.kept, n)
        else:
            state = _rerun(sweep, state, records, record, n, is_here)
            kept = ops.take(state.rerun, n - state.base)
        n = ops.choose(is_here, lambda: n, lambda: -2)
        bars, places = _pull(sweep, step, record, kept, state.bars, records, state.places, n)
        return state._replace(step=state.step - 1, places=places, bars=bars)

    return ops.while_loop(lambda state: state.step >= 0, pull, state).bars


def _rerun(sweep: AdaptiveSweep, state: _Return, tape: Accepted, record: Record, n: Any, where: Any) -> _Return:
    """The state with the records of the steps from the last kept one to step n."""
    ops, thinning = sweep.backend, sweep.thinning
    distance = thinning.distance(ops, tape.num_steps - 1, sweep.max_steps)
    base = n - n % distance
    is_stale = where & (base != state.base)
    first = ops.take(tape.kept, thinning.slot(ops, base, sweep.max_steps))
    # The kept record itself needs no step: where the records of all steps are kept, none is taken again.
    known = ops.put(state.rerun, 0, first, where=is_stale)
    loop = (ops.choose(is_stale & (n > base), lambda: base, lambda: n + 1), record.carry(first), known)

    def redo(loop: Any) -> Any:
        m, carry, rerun = loop
        following, kept = sweep.redone(tape, smaller(ops, m, sweep.max_steps - 1), carry, record)
        is_needed = m <= n
        rerun = ops.put(rerun, smaller(ops, m - base, distance - 1), kept, where=is_needed)
        return *ops.choose(is_needed, lambda: (m + 1, following), lambda: (m, carry)), rerun

    _, _, rerun = ops.while_loop(lambda loop: loop[0] <= n, redo, loop)
    return state._replace(base=ops.choose(is_stale, lambda: base, lambda: state.base), rerun=rerun)


def _pull(
    sweep: AdaptiveSweep,
    step: AcceptedStep,
    record: Record,
    kept: Any,
    bars: Bars,
    tape: Accepted,
    places: tuple[Any, ...],
    n: Any,
) -> tuple[Bars, tuple[Any, ...]]:
    """(bars after the way back through one step, how far each tap has come)."""
    ops = sweep.backend
    carry = ops.choose(
        step.row >= 0,
        lambda: sweep.method.output_vjp(bars.carry, ops.take(bars.ys, larger(ops, step.row, 0)), ops),
        lambda: bars.carry,
    )
    bars = bars._replace(carry=carry)
    is_read = bool(sweep.taps) and ops.may(step.is_read)
    moment = sweep.moment(Phase(sweep.stepper(is_read), 0), step, sweep.method.output(bars.carry))
    linearizations = record.linearizations(sweep, kept, moment)
    if not is_read:
        bars, t_bar, h_bar, _ = sweep.pull_stages(linearizations, moment, bars)
        return _placed(sweep, bars, step, t_bar, h_bar), places
    inside, moved = no_cotangents(sweep, bars), []
    for tap, state, place in zip(sweep.taps, tape.taps, places, strict=True):
        place, ts, inside = tap.give(sweep, state, place, bars, n, step, inside)
        bars = bars._replace(ts=ts)
        moved.append(place)
    bars, t_bar, h_bar, _ = sweep.pull_stages(linearizations, moment, bars, inside.slopes)
    if bars.ts is not None:
        t_bar = inside.t if t_bar is None else t_bar + inside.t
        h_bar = h_bar + inside.h
    bars = bars._replace(carry=sweep.method.output_vjp(bars.carry, inside.y, ops))
    return _placed(sweep, bars, step, t_bar, h_bar), tuple(moved)


def _placed(sweep: AdaptiveSweep, bars: Bars, step: AcceptedStep, t_bar: Array | None, h_bar: Any) -> Bars:
    if bars.ts is None:
        return bars
    return bars._replace(ts=sweep.grid.place_vjp(sweep.backend, bars.ts, step, t_bar, h_bar))
