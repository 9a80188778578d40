"""What is said when a solve has failed. A state that is infinite or NaN once stays so: the last one tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import InputError, NonFiniteState
from .protocols import Backend, State
from .solution import NON_FINITE, SUCCESS, Solution
from .sweep import Sweep


def check_start(where: str, backend: Backend, y0: State) -> None:
    """Refuse an initial state that is not finite."""
    if not backend.all_finite(y0):
        raise InputError(f"{where}: y0 must be finite; got an infinite or NaN entry. Check how it is computed.")


def status(backend: Backend, rows: Sequence[State]) -> int:
    """The status of an eager solve from its output rows: one host read per leaf, after the last step."""
    return SUCCESS if backend.all_finite(rows[-1]) else NON_FINITE


def raise_failure(
    where: str, sweep: Sweep, rows: Sequence[State], solution: Solution[Any], build: Callable[[State], Any]
) -> None:
    """Raise the error of a failed solve: when, after how many steps, and from which good state."""
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
