"""The errors janode raises: one root, one class for each kind of cause.

Texts follow one form: ``where: argument must <rule>; got <value>. <What to do.>``
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class JanodeError(Exception):
    """The root of every error that janode raises on purpose."""


class InputError(JanodeError, ValueError):
    """An argument breaks a documented rule; raised before any step is taken."""


class TableauError(JanodeError, ValueError):
    """The coefficients of a method contradict each other."""


class BackendError(JanodeError, TypeError):
    """A backend does not fulfil the protocol, or its library cannot be used."""


class SolveError(JanodeError, RuntimeError):
    """A solve could not be finished.

    Attributes:
        time: the time at which it failed (or the start of the interval in which it did).
        step: the number of that step.
        counts: the number of field evaluations and VJPs done.
        last_good: the last state known to be good, as the user's pytree, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        time: float | None = None,
        step: int | None = None,
        counts: Any = None,
        last_good: Any = None,
    ) -> None:
        super().__init__(message)
        self.time = time
        self.step = step
        self.counts = counts
        self.last_good = last_good


class NonFiniteState(SolveError):
    """The state became infinite or not a number."""


class MaxStepsReached(SolveError):
    """The end was not reached within the number of steps allowed."""


class StepSizeUnderflow(SolveError):
    """The error could be kept only with steps that are too small."""


def unknown_name(where: str, argument: str, got: object, legal: Iterable[str]) -> InputError:
    """The error for a name that is not among the legal ones, the nearest of which is listed first."""
    names = sorted(legal)
    near = difflib.get_close_matches(str(got), names, n=3, cutoff=0.5)
    listed = ", ".join(near + [name for name in names if name not in near])
    return InputError(f"{where}: {argument} must be one of: {listed}; got {got!r}. Choose a name from the list.")
