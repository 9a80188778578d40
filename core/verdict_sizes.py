"""How fine a solver is in a verdict: by the length of fixed steps, or by the tolerance of adaptive ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from .errors import InputError
from .methods import find_method
from .validity_checks import AnyMethod
from .validity_pairs import check_pair, paired_steps, paired_tolerance

HIGHEST_PAIR = "dopri8"


class Sizes:
    """What the sizes of a verdict's solvers are.

    Attributes:
        name: what a size is called; and ``label`` on an axis.
        refined: a better solver of the same method: by which factor its size is smaller, and what that is called.
        factors: the sizes of a table, unless chosen otherwise, as multiples of that of training.
        base: of the logarithm of an axis.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    refined: ClassVar[tuple[float, str]]
    factors: ClassVar[tuple[float, ...]]
    base: ClassVar[int]

    def options(self, size: float) -> dict[str, Any]:
        """What of a solve's options says the size."""
        raise NotImplementedError

    def fits(self, size: float) -> bool:
        """Whether a solver can have this size."""
        raise NotImplementedError

    def check(self, method: AnyMethod) -> None:
        """Refuse a method that has no such size."""
        raise NotImplementedError

    def better(self, method: AnyMethod, size: float) -> AnyMethod:
        """The method that tests one of this size; the same one if there is no better."""
        raise NotImplementedError


@dataclass(frozen=True)
class StepSizes(Sizes):
    """The lengths of fixed steps on an interval of this duration, in the unit of time."""

    duration: float
    name, label = "step", "step size"
    refined = 0.5, "half the step"
    factors = 2.0, 1.0, 0.5, 0.25
    base = 2

    def options(self, size: float) -> dict[str, Any]:
        """Steps of this length."""
        return {"step_size": size}

    def fits(self, size: float) -> bool:
        """Whether a step is not longer than the interval."""
        return size <= self.duration * (1 + 1e-9)

    def check(self, method: AnyMethod) -> None:
        """All methods take fixed steps."""

    def better(self, method: AnyMethod, size: float) -> AnyMethod:
        """As a ``StepSizeMonitor`` tests it."""
        return paired_steps(method, size, self.duration)[0]


@dataclass(frozen=True)
class StepTolerances(Sizes):
    """The relative tolerances of adaptive steps; the absolute ones are ``atol_share`` times as large."""

    atol_share: float
    name, label = "tolerance", "relative tolerance"
    refined = 0.1, "a tenth of the tolerance"
    factors = 10.0, 1.0, 0.1, 0.01
    base = 10

    def options(self, size: float) -> dict[str, Any]:
        """Both tolerances."""
        return {"rtol": size, "atol": size * self.atol_share}

    def fits(self, size: float) -> bool:
        """Whether it tells right digits from wrong ones."""
        return size < 1.0

    def check(self, method: AnyMethod) -> None:
        """Refuse methods without an error estimate."""
        check_pair("validate", method)

    def better(self, method: AnyMethod, size: float) -> AnyMethod:
        """As a ``ToleranceMonitor`` tests it; the method of the highest order instead of the same one."""
        following, present = paired_tolerance(method, size)[0], find_method(method)
        is_same = find_method(following).name == present.name
        return HIGHEST_PAIR if is_same and present.order < find_method(HIGHEST_PAIR).order else following


def read_training(trained_with: Any, duration: float) -> tuple[Sizes, AnyMethod, float]:
    """(what sizes are, the method, its size) of ``(method, step size)`` or ``(method, rtol, atol)``, checked."""
    given = trained_with if isinstance(trained_with, tuple | list) else ()
    if not all(isinstance(number, float | int) and 0.0 < number < math.inf for number in given[1:]):
        given = ()
    if len(given) == 2 and StepSizes(duration).fits(given[1]):
        return StepSizes(duration), given[0], float(given[1])
    if len(given) == 3 and given[1] < 1.0:
        return StepTolerances(given[2] / given[1]), given[0], float(given[1])
    raise InputError(
        f"validate: trained_with must be (method, step size), the step size in (0, {duration:g}], or (method, rtol, "
        f"atol), both > 0 and rtol < 1; got {trained_with!r}. Give for example "
        '("euler", 0.1), or ("dopri5", 1e-3, 1e-6) for adaptive steps.'
    )
