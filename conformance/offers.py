"""What janode offers: the names of methods, presets and corrections, and which of them go together.

The names come from the core's registries. Whether a method has a preset or a correction the core says itself: a small
solve in NumPy is asked for, and what is refused by name is not offered.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from janode import numpy as jo
from janode.core.adjoint import CONTINUOUS, RECOVERIES, STEPPED_BACK
from janode.core.errors import InputError
from janode.core.methods import COUPLED, NAMED, find_method
from janode.core.tableaus import TABLEAUS

METHODS = (*TABLEAUS, *NAMED, COUPLED.format("tsit5"))
CORRECTIONS = ("consistent", "filter", "filter_descent", "adjoint_average", "divide")
_MANY_STEPS = 24
_SAMPLED = jo.Field(lambda t, y, u: u * y, lambda t, y, u, f_bar: (None, u * f_bar, y * f_bar))
_PLAIN = jo.Field(lambda t, y: -y, lambda t, y, f_bar: (None, -f_bar))


def presets() -> tuple[str, ...]:
    """The names of all adjoint presets."""
    return (*RECOVERIES, *STEPPED_BACK, *CONTINUOUS)


@functools.cache
def refusal(
    method: str,
    preset: str,
    correction: str = "",
    sampling: str = "",
    is_adaptive: bool = False,
    reads_inside: bool = False,
) -> str:
    """Why a method does not have a preset, a correction, such controls, adaptive steps or what is read from inside."""
    stepping: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-3} if is_adaptive else {"steps": _MANY_STEPS}
    options: dict[str, Any] = {"method": method, "adjoint": preset, **stepping}
    field = _PLAIN
    if reads_inside:
        options |= {"event": jo.Event(lambda t, y: y, vjp=lambda t, y, bar: (None, bar)), "dense": True}
    if sampling == "knots":
        field = _SAMPLED
        options["controls"] = jo.Knots([0.0, 0.5, 1.0], np.full(3, 0.1))
    elif sampling:
        times = jo.control_times(method, [0.0, 1.0], steps=_MANY_STEPS, sampling=sampling)
        field = _SAMPLED
        options |= {"controls": np.full(len(times), 0.1), "sampling": sampling, "correction": correction or "none"}
    try:
        jo.solve_vjp(field, np.asarray(1.0), [0.0, 1.0], **options)
    except InputError as refused:
        return str(refused)
    return ""


def is_stepped_back(preset: str) -> bool:
    """Whether a preset computes the states backwards from the last one."""
    return preset in STEPPED_BACK or preset in CONTINUOUS


def is_approximate(method: str, preset: str) -> bool:
    """Whether a preset's gradient is not exact: by an inverse that is not, or by another solve."""
    if preset in CONTINUOUS:
        return True
    if "approximate" not in getattr({**RECOVERIES, **STEPPED_BACK}[preset], "inverses", ()):
        return False
    phases = find_method(method).phases(_MANY_STEPS)
    return any(getattr(phase.stepper, "inverse", None) != "exact" for phase in phases)
