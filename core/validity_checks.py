"""One check of a monitor: its evaluations, counted and watched, and the record of what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from .errors import InputError
from .methods import find_method
from .protocols import Method
from .tableaus import Tableau
from .validity_metrics import Comparison, Gap

AnyMethod = str | Tableau | Method
Evaluate = Callable[[AnyMethod, float], Any]
"""``evaluate(method, size)``: the metric of the model on one batch, solved by that method with that step size, or to
that tolerance; or the tuple (metric, number of field evaluations)."""


@dataclass(frozen=True)
class Check:
    """What one check found and decided.

    Attributes:
        iteration: the training iteration, as given to ``update``, or None.
        before, after: the step size (or the tolerance) of training before and after the check.
        test_method, test_size: the test solver, and its step size or tolerance.
        training, test, trial: the metrics of the training solver, of the test solver, and of the training solver with
            the larger size that was tried; None where there is none, or it is no number.
        difference, trial_difference: |training - test| and |trial - test|, relative if so asked.
        is_valid: whether the difference was within the threshold; with confidence, whether it was not surely beyond.
        num_field_evals: the field evaluations of this check.
    """

    iteration: int | None
    before: float
    after: float
    test_method: str
    test_size: float
    training: float | None
    test: float | None
    trial: float | None
    difference: float
    trial_difference: float | None
    is_valid: bool
    num_field_evals: int


class Run:
    """The evaluations of one check, counted and watched."""

    def __init__(
        self,
        where: str,
        evaluate: Evaluate,
        comparison: Comparison,
        count: Callable[[AnyMethod, float], int],
        checksum: Callable[[], Any] | None,
    ) -> None:
        self.where, self.evaluate, self.comparison = where, evaluate, comparison
        self.count, self.checksum = count, checksum
        self.num_field_evals = 0
        self._before = checksum() if checksum else None

    def __call__(self, method: AnyMethod, size: float) -> tuple[Any, int]:
        """(metric, number of field evaluations)."""
        found, source = self.evaluate(method, size), f"{find_method(method).name!r} with {size:g}"
        if self.checksum and self.checksum() != self._before:
            raise InputError(
                f"{self.where}: evaluate must not change the model; got another checksum after {source}. Evaluate in "
                "evaluation mode, and take no training step."
            )
        count = None
        if isinstance(found, tuple):
            if len(found) != 2 or not isinstance(found[1], Integral) or found[1] < 0:
                raise InputError(
                    f"{self.where}: evaluate must return a metric, or a tuple of a metric and the number of field "
                    f"evaluations; got {found!r} from {source}. Return metrics of several entries as a list."
                )
            found, count = found[0], int(found[1])
        count = self.count(method, size) if count is None else count
        self.num_field_evals += count
        return self.comparison.read(self.where, found, source), count

    def gap(self, training: Any, test: Any) -> Gap:
        """How far two metrics are apart."""
        return self.comparison.gap(self.where, training, test)
