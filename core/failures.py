"""What is said when a solve has failed. A state that is infinite or NaN once stays so: the last one tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import InputError, MaxStepsReached, NonFiniteState, SolveError, StepSizeUnderflow
from .protocols import Backend, State
from .solution import MAX_STEPS, NON_FINITE, STEP_UNDERFLOW, Report, Solution
from .sweep import Sweep


def check_start(where: str, backend: Backend, y0: State) -> None:
    """Refuse an initial state that is not finite."""
    if not backend.all_finite(y0):
        raise InputError(f"{where}: y0 must be finite; got an infinite or NaN entry. Check how it is computed.")


def raise_failure(
    where: str, sweep: Sweep, report: Report, solution: Solution[Any], build: Callable[[State], Any]
) -> None:
    """Raise the error of a failed solve: when, after how many steps, and from which good state."""
    if report.time is not None:
        _raise_adaptive(where, report, solution, build)
    rows = report.rows
    bad = next(k for k, row in enumerate(rows) if not sweep.backend.all_finite(row))
    start, end = float(sweep.ts[bad - 1]), float(sweep.ts[bad])
    step = sum(sweep.grid.counts[: bad - 1])
    raise NonFiniteState(
        f"{where}: the state must stay finite; it became infinite or NaN between t = {start} and t = {end}, after step "
        f"{step} of {sweep.grid.num_steps}; {solution.stats}. Take smaller steps, or check the field there; "
        'on_failure="return" gives the solution as far as it went.',
        time=start,
        step=step,
        counts=solution.stats,
        last_good=build(rows[bad - 1]),
    )


_FAILURES: dict[int, tuple[type[SolveError], str, str]] = {
    NON_FINITE: (NonFiniteState, "the state must stay finite; it became infinite or NaN", "Check the field there"),
    MAX_STEPS: (
        MaxStepsReached,
        "the end must be reached within max_steps tries; it was not",
        "Raise max_steps or rtol",
    ),
    STEP_UNDERFLOW: (
        StepSizeUnderflow,
        "the step size must stay above min_step and above rounding in t; a smaller one was needed",
        "Check whether the solution blows up or the field is not finite there, or raise rtol and atol",
    ),
}


def _raise_adaptive(where: str, report: Report, solution: Solution[Any], build: Callable[[State], Any]) -> None:
    kind, fault, fix = _FAILURES[int(report.status)]
    time, step = float(report.time), int(report.num_accepted)
    raise kind(
        f"{where}: {fault}; got as far as t = {time} in {step} steps; {solution.stats}. {fix}; "
        'on_failure="return" gives the solution as far as it went.',
        time=time,
        step=step,
        counts=solution.stats,
        last_good=build(report.last),
    )
