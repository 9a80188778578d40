"""The adjoint ``"backsolve"``: the continuous adjoint, solved backwards by the sweep that went forward.

With lam = dL/dy and theta_bar = dL/dtheta, both of what lies ahead, the augmented state (y, lam, theta_bar) obeys

    y' = f(t, y, theta),    lam' = -(df/dy)^T lam,    theta_bar' = -(df/dtheta)^T lam,

which is one more field for the same method: from each of ts back to the one before, with y and the cotangent of the
loss taken up anew at each. Its gradient converges to that of the continuous problem, but is that of no discrete one.
"""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from .controllers import Tolerances, smaller
from .errors import InputError, MaxStepsReached, NonFiniteState, SolveError, StepSizeUnderflow
from .grids import FixedGrid, Stops
from .protocols import Array, Backend, Field, Linearization, State, Time
from .records import Nothing
from .solution import MAX_STEPS, NON_FINITE, STEP_UNDERFLOW, SUCCESS, Report, Stats
from .stepped_back import note_error, relative_error
from .sweep import Bars, Sweep
from .taps import Between

_REFINEMENT = 10.0
"""By how much tighter than the solve it judges the tolerances of a second one are; fixed steps are halved."""


@dataclass(frozen=True)
class Backsolve:
    """The adjoint ``"backsolve"``: memory that does not grow with the number of steps, and a gradient with an error.

    Args:
        rtol, atol: the tolerances of the backward solve, > 0, for adaptive steps; None takes those of the solve. They
            hold for y, for its cotangent and for the totals of the parameters' cotangents.
        seminorm: whether the parameters' cotangents are left out of the error that decides about steps (Kidger, Chen,
            Lyons 2021, arXiv 2009.09457): fewer steps, no control of their error.
        estimate: whether the backward pass is repeated with steps halved or tolerances a tenth, to estimate the error
            of its gradient: ``stats.gradient_error``, relative. Eager libraries only.

    Raises:
        InputError: a tolerance is not a positive finite number.
    """

    rtol: float | None = None
    atol: float | None = None
    seminorm: bool = False
    estimate: bool = False

    def __post_init__(self) -> None:
        for name in ("rtol", "atol"):
            value = getattr(self, name)
            is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
            if value is not None and not (is_number and 0.0 < value < math.inf):
                raise InputError(f"Backsolve: {name} must be > 0 and finite; got {value!r}. Give for example 1e-6.")

    def forward(self, sweep: Sweep, y0: State) -> tuple[Any, Any]:
        """(outputs, buffer of the states at all ts)."""
        self._check(sweep)
        outputs, _, _ = sweep.advance(y0, Nothing())
        return outputs, outputs.rows if isinstance(outputs, Report) else outputs

    def backward(self, sweep: Sweep, tape: Any, bars: Bars) -> tuple[Bars, Any]:
        """The cotangents of the continuous problem, and nothing for controls."""
        unwatched: dict[str, Any] = {} if _is_fixed(sweep) else {"observe": None, "taps": ()}
        sweep = replace(sweep, before=None, **unwatched)
        passed = self._pass(sweep, tape, bars, is_refined=False)
        error = None
        if self.estimate:
            refined = self._pass(sweep, tape, bars, is_refined=True)
            error = _distance(sweep.backend, passed, refined)
        method, ops = sweep.method, sweep.backend
        carry = method.output_vjp(method.carry_zeros(ops.zeros(passed.lam)), passed.lam, ops)
        ts = bars.ts if passed.ts is None else passed.ts
        return bars._replace(carry=carry, theta=passed.theta, ts=ts, error=passed.mismatch, estimate=error), ()

    def _check(self, sweep: Sweep) -> None:
        """Refuse what the continuous adjoint cannot have."""
        control = getattr(sweep, "control", None)
        reasons = {
            "have no controls, or controls on Knots and fixed steps": sweep.controls is not None,
            "have a method that can start anew at each of ts": sweep.method.needs_equal_steps,
            "come without event and dense": any(not isinstance(tap, Between) for tap in getattr(sweep, "taps", ())),
            "come without step_ts and jump_ts, which Knots set": control is not None
            and bool(control.step_ts or control.jump_ts),
            "have rtol and atol for adaptive steps only": _is_fixed(sweep)
            and not (self.rtol is None and self.atol is None),
        }
        for rule, is_broken in reasons.items():
            if is_broken:
                raise InputError(
                    f'solve: adjoint "backsolve" must {rule}; got it with method {sweep.method.name!r}. Use an exact '
                    'adjoint, such as "symplectic".'
                )

    def _pass(self, sweep: Sweep, rows: Any, bars: Bars, is_refined: bool) -> _Passed:
        """The whole way back, interval by interval, last first."""
        ops = sweep.backend
        first = ops.take(rows, 0)
        ts_bar = None if is_refined else bars.ts
        state = _Passed(ops.zeros(first), bars.theta, ts_bar, relative_error(ops, first, first))
        for intervals, count in reversed(list(_runs(sweep))):

            def body(state: _Passed, k: Any, count: int | None = count) -> tuple[_Passed, tuple[()]]:
                return self._interval(sweep, rows, bars, state, k, count, is_refined), ()

            state, _ = ops.scan(body, state, list(intervals), reverse=True)
        if ops.all_finite((state.mismatch,)) is False:  # known: an eager library
            _fail(NON_FINITE, sweep.ts[sweep.num_times - 1], sweep.ts[0])
        return state

    def _interval(
        self, sweep: Sweep, rows: Any, bars: Bars, state: _Passed, k: Any, count: int | None, is_refined: bool
    ) -> _Passed:
        """The way from ts[k + 1] back to ts[k]."""
        ops = sweep.backend
        y, saved = ops.take(rows, k + 1), ops.take(rows, k)
        y_bar = ops.take(bars.ys, k + 1)
        lam = ops.linear_combination(state.lam, 1.0, (1.0,), (y_bar,))
        field = AugmentedField(sweep.field, ops, len(y), state.theta)
        piece = self._piece(sweep, field, k, count, is_refined)
        outputs, _, carry = piece.advance((*y, *lam, *state.theta), Nothing())
        found = sweep.method.output(carry)
        if isinstance(outputs, Report):
            failed = outputs.status != SUCCESS
            if failed is True:  # known: an eager library
                _fail(outputs.status, sweep.ts[k + 1], outputs.time)
            reached = found
            found = ops.choose(failed, lambda: tuple(leaf + math.nan for leaf in reached), lambda: reached)
        back, lam, theta = field.parts(found)
        mismatch = relative_error(ops, back, saved)
        if is_refined:
            lam, theta = self._on_saved_path(sweep, field, k, found, saved)
        ts = state.ts
        if ts is not None:
            ts = _moved(ops, sweep, ts, k + 1, y, y_bar, 1.0)
            # Before the first of ts nothing depends on its state but by way of the solution.
            ts = ops.choose(k == 0, lambda: _moved(ops, sweep, ts, k, saved, lam, -1.0), lambda: ts)
        return _Passed(lam, theta, ts, ops.xp.maximum(state.mismatch, mismatch))

    def _piece(self, sweep: Any, field: AugmentedField, k: Any, count: int | None, is_refined: bool) -> Sweep:
        """The sweep of the augmented state from ts[k + 1] back to ts[k]."""
        ops = sweep.backend
        ts = _Ends(ops, sweep.ts[k + 1], sweep.ts[k])
        if count is not None:
            return replace(sweep, field=field, ts=ts, grid=FixedGrid((2 * count if is_refined else count,)))
        known = _Ends(ops, sweep.known_ts[k + 1], sweep.known_ts[k])
        stops = Stops(known, known, _Itself(), (False, False), 2, False, False)
        tolerances = self._tolerances(ops, sweep.tolerances, field, 1.0 / _REFINEMENT if is_refined else 1.0)
        return replace(sweep, field=field, ts=known, known_ts=known, grid=stops, tolerances=tolerances)

    def _tolerances(self, ops: Backend, given: Tolerances, field: AugmentedField, factor: float) -> Tolerances:
        """Those of the solve, or one's own, for y, for lam and, the least of them, for the totals."""
        size, num_totals = field.size, len(field.like)

        def of_all(own: float | None, of_solve: tuple[Any, ...]) -> tuple[Any, ...]:
            entries = tuple(factor * entry for entry in (of_solve if own is None else (own,) * size))
            return *entries, *entries, *(_least(ops, entries),) * num_totals

        def norm(ratios: State) -> Any:
            y, lam, totals = field.parts(ratios)
            parts = [_norm(ops, y, given.norm), _norm(ops, lam, given.norm)]
            if totals and not self.seminorm:
                parts.append(_norm(ops, totals, None))
            largest = parts[0]
            for part in parts[1:]:
                largest = ops.xp.maximum(largest, part)
            return largest

        return Tolerances(of_all(self.rtol, given.rtol), of_all(self.atol, given.atol), norm)

    @staticmethod
    def _on_saved_path(sweep: Sweep, field: AugmentedField, k: Any, found: State, saved: State) -> tuple[State, State]:
        """(lam, totals) at ts[k] had y come back to the saved state: to first order in the mismatch. Eager only.

        Going back, y parts from the way forward gradually, and the slopes of lam and of the totals with it: from none
        to what they differ by at ts[k]. That lasts for as long as the mismatch takes to grow to what it is, ||e|| /
        ||e'||, and at most for half the interval.
        """
        ops, size = sweep.backend, field.size
        t = ops.time(sweep.ts[k], saved[sweep.clock])
        slopes = [field(t, start, sweep.theta) for start in (found, (*saved, *found[size:]))]
        squares = []
        for there, here in ((found[:size], saved), (slopes[0][:size], slopes[1][:size])):
            apart = ops.linear_combination(there, -1.0, (1.0,), (here,))
            squares.append(float(ops.pair(apart, apart)))
        interval = sweep.ts[k + 1] - sweep.ts[k]
        longest = 0.5 * abs(interval)
        lasts = min(longest, (squares[0] / squares[1]) ** 0.5) if squares[1] > 0.0 else longest
        signed = math.copysign(lasts, interval)
        moved = ops.linear_combination(found[size:], signed, (1.0, -1.0), [state[size:] for state in slopes])
        return moved[:size], moved[size:]


class _Passed(NamedTuple):
    """What the way back has come to."""

    lam: State
    theta: State
    ts: Any
    """Buffer of the cotangents of ts, or None."""
    mismatch: Array
    """The largest ||y - y_k|| / ||y_k|| so far, y_k the state that the way forward had at ts[k]."""


class AugmentedField:
    """The right-hand side of (y, lam, theta_bar). One evaluation costs one linearization and one VJP of the field."""

    needs_time = False

    def __init__(self, field: Field, ops: Backend, size: int, like: State) -> None:
        self.field, self.ops, self.size, self.like = field, ops, size, like

    def parts(self, state: State) -> tuple[State, State, State]:
        """(y, lam, totals)."""
        return state[: self.size], state[self.size : 2 * self.size], state[2 * self.size :]

    def __call__(self, t: Array, y: State, theta: State) -> State:
        """The slopes of all three."""
        ops = self.ops
        y, lam, totals = self.parts(y)
        point = self.field.linearize(t, y, theta)
        _, y_bar, theta_bar = point.pull(lam)
        slopes = ops.accumulate(ops.zeros(totals), theta_bar[: len(totals)])
        return (*point.f, *(-leaf for leaf in y_bar), *(-leaf for leaf in slopes))

    def linearize(self, t: Array, y: State, theta: State) -> Linearization:
        """There is no adjoint of the adjoint."""
        raise AssertionError("the augmented field has no pullback")

    def wanted(self, theta: State) -> State:
        """Nothing."""
        return ()


@dataclass(frozen=True)
class _Ends:
    """The times at the two ends of an interval, read at a place that a traced library may not know."""

    ops: Backend
    start: Time
    end: Time

    def __getitem__(self, place: Any) -> Time:
        return self.ops.choose(place > 0, lambda: self.end, lambda: self.start)

    def __len__(self) -> int:
        return 2


class _Itself:
    """The row of each stop is the stop."""

    def __getitem__(self, place: Any) -> Any:
        return place


def _is_fixed(sweep: Sweep) -> bool:
    return isinstance(sweep.grid, FixedGrid)


def _runs(sweep: Sweep) -> Iterable[tuple[list[int], int | None]]:
    """The intervals that have as many steps as their neighbours, and that number; None where it follows from errors."""
    if not _is_fixed(sweep):
        yield list(range(sweep.num_times - 1)), None
        return
    for count, run in itertools.groupby(enumerate(sweep.grid.counts), lambda entry: entry[1]):
        yield [k for k, _ in run], count


def _moved(ops: Backend, sweep: Sweep, ts_bar: Any, k: Any, y: State, bar: State, sign: float) -> Any:
    """The buffer with <bar, f(ts[k], y)> added to row k: what to move that time does to a state there."""
    f = sweep.field(ops.time(sweep.ts[k], y[sweep.clock]), y, sweep.theta)
    return ops.put(ts_bar, k, ops.linear_combination(ops.take(ts_bar, k), sign, (1.0,), ((ops.pair(bar, f),),)))


def _least(ops: Backend, entries: tuple[Any, ...]) -> Any:
    """The least of tolerances that are numbers or arrays."""
    least: Any = math.inf
    for entry in entries:
        entry = ops.xp.min(entry) if hasattr(entry, "shape") else entry
        least = entry if least is math.inf else smaller(ops, least, entry)
    return least


def _norm(ops: Backend, ratios: State, own: Any) -> Any:
    """The norm of one part: one's own, or the root mean square."""
    if own is not None:
        return own(ratios)
    return ops.xp.sqrt(ops.pair(ratios, ratios) / max(ops.num_entries(ratios), 1))


def _distance(ops: Backend, found: _Passed, refined: _Passed) -> Array:
    """||found - refined|| / ||refined|| of the cotangents of y0 and of the parameters: the larger of the two."""
    far = relative_error(ops, found.lam, refined.lam)
    return ops.xp.maximum(far, relative_error(ops, found.theta, refined.theta)) if found.theta else far


_FAULTS: dict[int, tuple[type[SolveError], str]] = {
    NON_FINITE: (NonFiniteState, "its state became infinite or NaN"),
    MAX_STEPS: (MaxStepsReached, "it tried max_steps steps"),
    STEP_UNDERFLOW: (StepSizeUnderflow, "its step size became too small"),
}


def _fail(status: int, start: Any, time: Any) -> None:
    kind, fault = _FAULTS[status]
    raise kind(
        f'solve: adjoint "backsolve" must be able to solve the problem backwards; it got from t = {float(start)} to '
        f"t = {float(time)}, where {fault}. What decays forwards grows backwards: use an exact adjoint, which solves "
        'nothing backwards, such as "symplectic" or "revolve"; or give tighter rtol and atol.',
        time=float(time),
    )


def report_estimate(stats: Stats, estimate: Array | None) -> None:
    """Note the estimated error of a gradient, and warn of a large one. Reads one number from the device."""
    note_error(
        stats,
        "gradient_error",
        estimate,
        "the gradient of the continuous adjoint is off by about {:.1e} of its norm. Give tighter tolerances or more "
        'steps, or an exact adjoint, such as "symplectic".',
    )
