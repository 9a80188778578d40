"""Which solver tests which: a method of higher order, with steps so small that its error is smaller."""

from __future__ import annotations

import math
from functools import cache

from .error_constants import error_constant
from .errors import InputError
from .methods import find_method
from .protocols import Method
from .tableaus import TABLEAUS, Tableau

FIXED_PAIRS = {"euler": "midpoint", "midpoint": "rk4"}
"""The pairs of the paper; it compares their errors as if both error constants were 1, and so it is done here."""
TOLERANCE_PAIR = "dopri5"
"""What tests pairs of lower order; pairs of its own order or higher test themselves."""


@cache
def paired_method(name: str, order: int) -> str | None:
    """The method that tests one of that name and order; None: it tests itself, as none of two orders more is known."""
    if name in FIXED_PAIRS:
        return FIXED_PAIRS[name]
    higher = [one for one in TABLEAUS.values() if one.order >= order + 2]

    def cost(one: Tableau) -> tuple[int, float, str]:
        return one.num_solution_stages, error_constant(find_method(one)) or 0.0, one.name

    return min(higher, key=cost).name if higher else None


def paired_steps(
    method: str | Tableau | Method, step: float, duration: float, accuracy: float = 50.0
) -> tuple[str | Tableau | Method, float]:
    """The test solver (method, step) for a training solver, its error estimated to be ``accuracy`` times smaller.

    With x = h / T, C the error constants, p and q the orders: C_q x_test^q = C_p x^p / accuracy, x_test <= x.

    Args:
        method: the training method.
        step: its step size h, 0 < h <= duration.
        duration: the length T of the interval, in the unit of time.
        accuracy: > 0.

    Source: Ott, Katiyar, Hennig, Tiemann 2021, arXiv 2007.15386, for euler and midpoint with T = 1.

    Example:
        >>> paired_steps("euler", 0.5, 1.0)
        ('midpoint', 0.1)
    """
    training = find_method(method)
    name = paired_method(training.name, training.order)
    test = training if name is None else find_method(name)
    ratio = 1.0
    if training.name not in FIXED_PAIRS:
        ratio = (error_constant(training) or 1.0) / (error_constant(test) or 1.0)
    share = step / duration
    test_share = (ratio * share**training.order / accuracy) ** (1.0 / test.order)
    return method if name is None else name, duration * min(share, test_share)


def paired_tolerance(method: str | Tableau | Method, tolerance: float) -> tuple[str | Tableau | Method, float]:
    """The test solver (method, tolerance) for an adaptive training solver.

    Source: Ott, Katiyar, Hennig, Tiemann 2021, arXiv 2007.15386: fehlberg2 -> dopri5 at a fifth of the tolerance,
    dopri5 -> itself at a tenth.

    Example:
        >>> paired_tolerance("fehlberg2", 1e-3)
        ('dopri5', 0.0002)
    """
    if find_method(method).order < find_method(TOLERANCE_PAIR).order:
        return TOLERANCE_PAIR, tolerance / 5
    return method, tolerance / 10


def num_steps(step: float, duration: float) -> int:
    """The fewest equal steps on [0, T] that are not longer than h; rounding adds none."""
    return max(1, math.ceil(duration / step * (1 - 1e-9)))


def num_field_evals(method: str | Tableau | Method, step: float, duration: float) -> int:
    """The field evaluations of one solve with fixed steps."""
    phases = find_method(method).phases(num_steps(step, duration))
    return sum(len(phase.stepper.c) * phase.num_steps for phase in phases)


def check_pair(where: str, method: str | Tableau | Method) -> None:
    """Refuse methods without an error estimate, which cannot keep to a tolerance."""
    chosen = find_method(method)
    tableau = getattr(chosen, "tableau", None)
    if tableau is None or tableau.b_error is None:
        pairs = ", ".join(name for name, one in TABLEAUS.items() if one.b_error is not None)
        raise InputError(f"{where}: method must have an error estimate; got {chosen.name!r}. Choose one of: {pairs}.")
