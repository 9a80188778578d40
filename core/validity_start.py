"""The first step size of a monitor: Hairer's estimate for the model as it is at the start of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .controllers import Tolerances, first_step
from .errors import InputError
from .methods import find_method
from .protocols import Backend, State
from .validity_checks import AnyMethod


def starting_step(
    ops: Backend,
    field: Callable[[Any, State], State],
    y0: State,
    ts: Sequence[float],
    method: AnyMethod,
    max_steps: int,
) -> float:
    """Hairer's first step size, in [T / max_steps, T], with errors measured in the unit of the state."""
    if not isinstance(max_steps, int) or max_steps < 1:
        raise InputError(f"starting_step: max_steps must be an integer >= 1; got {max_steps!r}. 500 is the paper's.")
    duration, direction = abs(ts[-1] - ts[0]), 1.0 if ts[-1] > ts[0] else -1.0
    f0 = field(ops.time(ts[0], y0[0]), y0)

    def slope_after(h: Any) -> State:
        y1 = ops.linear_combination(y0, direction * h, (1.0,), (f0,))
        return field(ops.time(ts[0] + direction * h, y0[0]), y1)

    tolerances = Tolerances((0.0,) * len(y0), (1.0,) * len(y0))
    h = float(first_step(ops, tolerances, find_method(method).order + 1, y0, f0, duration, slope_after))
    return min(max(h, duration / max_steps), duration)
